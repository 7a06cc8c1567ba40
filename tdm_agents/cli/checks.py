"""Checks that find mistakes before the work begins; their errors name the option and what would do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tdm_agents.errors import MissingPackageError, WrongValueError

if TYPE_CHECKING:
    import torch

    from tdm_agents.environments import Env


def at_least(minimum: int, **options: int | None) -> None:
    """Refuse options below ``minimum``; None is an option that was not given.

    Args:
        minimum: The smallest value that makes sense.
        options: Values by field name: ``max_steps`` is ``--max-steps``.

    Raises:
        ValueError: If a value is too small.
    """
    for name, value in options.items():
        if value is not None and value < minimum:
            raise WrongValueError(f"--{name.replace('_', '-')} is {value}; expected at least {minimum}")


def output_folder(path: Path, option: str = "--out") -> None:
    """Refuse a folder that could neither be written to nor made; this makes nothing itself.

    Raises:
        ValueError: If the folder, or the one it would be in, is no folder or is read-only.
    """
    _check_writable(path, f"{option} {path}", option)


def output_file(path: Path, option: str = "--out") -> None:
    """Refuse a file that could not be written; this makes nothing itself.

    Raises:
        ValueError: If the path is a folder, or the file's folder cannot be written to.
    """
    if path.is_dir():
        raise WrongValueError(
            f"{option} {path} is a folder; expected a file, for example {option} {path / 'report.json'}"
        )
    _check_writable(path.parent, f"{option} {path}", option)


def usable_device(name: str, option: str = "--device") -> torch.device:
    """The device of that name, tried out with a number.

    Raises:
        ValueError: If PyTorch does not know the device or cannot use it here.
    """
    import torch

    try:
        device = torch.device(name)
        torch.zeros(1, dtype=torch.float32, device=device)
    except (RuntimeError, AssertionError) as error:  # what PyTorch raises differs by kind of device
        usable = "cpu or cuda" if torch.cuda.is_available() else "cpu"
        raise WrongValueError(
            f"{option} {name!r} cannot be used by PyTorch {torch.__version__} here "
            f"({str(error).strip().splitlines()[0]}); pass {option} {usable}"
            + (
                ""
                if torch.cuda.is_available()
                else ", or install a CUDA build of PyTorch (pytorch.org) for cuda"
            )
        ) from error
    return device


def tell_endless(name: str, made: Env, max_steps: int | None, tell: Callable[[str], None]) -> None:
    """Say in one line that the episodes of an environment are cut because nothing else ends them.

    Args:
        name: What the user calls the environment.
        made: The environment.
        max_steps: What ``--max-steps`` says.
        tell: Prints the line.
    """
    from tdm_agents.environments import ENDLESS_STEPS, steps_at_most

    if steps_at_most(made, max_steps) != max_steps:
        tell(
            f"{name} has no time limit: episodes that do not end by themselves are cut after "
            f"{ENDLESS_STEPS:,} environment steps; --max-steps sets another number."
        )


def _check_writable(folder: Path, given: str, option: str) -> None:
    nearest = folder.absolute()
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise WrongValueError(
            f"{given}: {nearest} is not a folder, and a folder is needed there; choose another {option}"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise WrongValueError(
            f"{given}: {nearest} may not be written to; choose another {option}, "
            f"or give yourself the right to (chmod u+wx {nearest})"
        )


def own_run_folder(folder: Path, command: str) -> None:
    """Refuse a folder that holds files but no run; leftovers of a run that was killed early are accepted.

    Raises:
        ValueError: If there are such files; the message names one.
    """
    from tdm_agents.storage import foreign_file
    from tdm_agents.training import run_file, run_state

    if not folder.exists() or run_file.exists(folder) or run_state.exists(folder):
        return
    found = foreign_file(folder)
    if found is not None:
        raise WrongValueError(
            f"--out {folder} holds {found!r} and no run of {command}; choose another --out, or empty this "
            "folder"
        )


def require_viewer(what: str) -> None:
    """Refuse to go on without the extra ``view``.

    Args:
        what: The command that needs it.

    Raises:
        ImportError: If the extra is not installed.
    """
    try:
        import viser  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            f"{what} needs the extra `view` ({error}): pip install 'tdm-agents[view]'"
        ) from error
