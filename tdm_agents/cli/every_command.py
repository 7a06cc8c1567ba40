"""The options that every command has, with one meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from tdm_agents.errors import WrongValueError

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class EveryCommand:
    """Options of every command; they may stand anywhere after its name."""

    config: Path | None = None
    """File of options (YAML) under the names that are listed here, such as the tdm-COMMAND.yaml of a former
    run; options that are typed as well count instead."""
    quiet: bool = False
    """Say nothing but results and mistakes: no progress, no remarks."""
    verbose: bool = False
    """Also say with which settings it runs, what it makes and writes, and where the time goes."""
    traceback: bool = False
    """Show where the error of a mistake came from (or TDM_TRACEBACK=1)."""


def taken_out(words: Sequence[str]) -> tuple[EveryCommand, list[str]]:
    """These options, and the words that are left of those that were typed.

    Raises:
        ValueError: If ``--config`` names no file, or they contradict each other.
    """
    found: dict[str, Any] = {}
    rest: list[str] = []
    left = iter(words)
    for word in left:
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name == "config":
            file = value if equals else next(left, "")
            if not file:
                raise WrongValueError("--config names no file; expected --config FILE")
            found["config"] = Path(file)
        elif word.startswith("--") and (flag := name.removeprefix("no-")) in _FLAGS and not equals:
            found[flag] = flag == name
        else:
            rest.append(word)
    every = EveryCommand(**found)
    if every.quiet and every.verbose:
        raise WrongValueError("--quiet and --verbose exclude each other; leave one out")
    return every, rest


def with_every_option(kind: type[Any]) -> type[Any]:
    """A command's dataclass with these options as well, so that its help and completion name them."""
    both = type(kind.__name__, (EveryCommand, kind), {"__doc__": kind.__doc__, "__module__": kind.__module__})
    return dataclass(frozen=True)(both)


def without_them(settings: Any, kind: type[Kind]) -> Kind:
    """The command's own part of what :func:`with_every_option` was read as."""
    return kind(**{f.name: getattr(settings, f.name) for f in fields(kind)})  # type: ignore[arg-type]


_FLAGS = frozenset(f.name for f in fields(EveryCommand)) - {"config"}
