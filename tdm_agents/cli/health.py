"""The checks of ``tdm doctor``: what is there, what is missing, and what helps."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tdm_agents.cli.checks import output_folder
from tdm_envs import without_dm_control

DISTRIBUTION = "tdm-agents"
State = Literal["ok", "note", "problem"]
_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes:
        what: The thing that was looked at.
        state: ``"note"`` where something is missing that planning can do without.
        found: What is there, or what is wrong.
        remedy: What to do; empty where nothing has to be done.
    """

    what: str
    state: State
    found: str
    remedy: str = ""


class ProbeError(RuntimeError):
    """A probe failed; the message is the last line that it printed."""


def probe(name: str, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run a probe of :mod:`tdm_agents.cli.probes` in a process of its own.

    Args:
        name: Name of the probe.
        environ: Environment variables; None = those of this process.

    Raises:
        ProbeError: If the probe fails, crashes or does not answer.
    """
    try:
        done = subprocess.run(
            # -P, because a torch.py in the user's folder is not PyTorch
            [sys.executable, "-P", "-m", "tdm_agents.cli.probes", name],
            capture_output=True,
            text=True,
            env=dict(os.environ if environ is None else environ),
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise ProbeError(f"no answer within {_SECONDS:g} s") from error
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        # an exception's last line says what it was; a crash says nothing
        raise ProbeError(lines[-1] if lines else f"ended with status {done.returncode}")
    # libraries may print something first
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def examine(folder: Path = Path("runs")) -> Iterator[Finding]:
    """The findings of every check, the quick ones first.

    Args:
        folder: Folder to which commands write by default.
    """
    yield Finding(DISTRIBUTION, "ok", version(DISTRIBUTION))
    yield _python()
    yield from packages(requires(DISTRIBUTION) or [])
    yield from suite()
    yield from folders({"outputs": folder, "temporary files": Path(tempfile.gettempdir())})
    yield _torch()
    yield from plugins()
    yield _ffmpeg()
    yield _renderer()
    yield _planning()


def packages(requirements: list[str]) -> Iterator[Finding]:
    """A finding per requirement, by what is installed; requirements of extras are left out."""
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        remedy = f"pip install '{text.partition(';')[0].strip()}'"
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield Finding(requirement.name, "problem", f"missing; expected {requirement.specifier}", remedy)
            continue
        if requirement.specifier.contains(found, prereleases=True):
            yield Finding(requirement.name, "ok", found)
        else:
            yield Finding(requirement.name, "problem", f"{found}; expected {requirement.specifier}", remedy)


def suite() -> list[Finding]:
    """Whether dm_control's suite is there, where this package does not require it."""
    what = "dm_control's suite"
    if without_dm_control.PYTHON <= without_dm_control.LAST_WITH_WHEELS:
        return []  # it is among the packages
    if without_dm_control.is_installed():
        return [Finding(what, "ok", "installed without labmaze")]
    found = "not installed with Python 3.13 or newer; everything else works"
    return [Finding(what, "note", found, " && ".join(without_dm_control.WITHOUT_LABMAZE))]


def folders(paths: Mapping[str, Path]) -> Iterator[Finding]:
    """A finding per folder: whether it can be written to, or made."""
    for what, path in paths.items():
        try:
            output_folder(path, what)
        except ValueError as error:
            yield Finding(what, "problem", str(error), "choose another --out, or change the rights")
        else:
            yield Finding(what, "ok", str(path.absolute()))


def plugins() -> list[Finding]:
    """Findings of planners and world models that cannot be used; a single one where all can."""
    try:
        found = probe("plugins")
    except ProbeError as error:
        return [Finding("planners and world models", "problem", str(error), "see the packages above")]
    broken = {name: error for name, error in found.items() if error is not None}
    findings = [
        Finding(name, "note", error, "update or uninstall the package that is named")
        for name, error in broken.items()
    ]
    names = sorted(name.partition(": ")[2] for name in found if name not in broken)
    return [Finding("planners and world models", "ok", ", ".join(names)), *findings]


def _python() -> Finding:
    here, wanted = platform.python_version(), metadata(DISTRIBUTION)["Requires-Python"]
    if SpecifierSet(wanted).contains(here, prereleases=True):
        return Finding("python", "ok", here)
    remedy = "make a virtual environment with that Python"
    return Finding("python", "problem", f"{here}; expected {wanted}", remedy)


def _torch() -> Finding:
    try:
        found = probe("torch")
    except ProbeError as error:
        return Finding("devices", "problem", str(error), "install PyTorch again (pytorch.org)")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = f"cpu ({found['threads']} threads of torch, {cores} cores)"
    if found["gpus"]:
        return Finding("devices", "ok", f"{cpu}, cuda: {', '.join(found['gpus'])}")
    remedy = "for a GPU: its driver, and a CUDA build of PyTorch (pytorch.org)"
    if found["cuda"] is not None:
        remedy = "this PyTorch could use a GPU, but sees none: look at nvidia-smi and its driver"
    return Finding("devices", "note", f"{cpu}; no GPU", remedy)


def _ffmpeg() -> Finding:
    try:
        found = probe("ffmpeg")
    except ProbeError as error:
        remedy = "pip install 'imageio[ffmpeg]'; without it there are no videos"
        return Finding("ffmpeg", "note", str(error), remedy)
    return Finding("ffmpeg", "ok", f"{found['version']}")


def _renderer() -> Finding:
    try:
        found = probe("renderer")
    except ProbeError as error:
        return Finding(
            "renderer", "note", str(error), "see the packages above; without it there are no videos"
        )
    if found["backend"] is None:
        return Finding("renderer", "note", "nothing renders, so there are no videos", found["why"])
    return Finding("renderer", "ok", f"MUJOCO_GL={found['backend']}")


def _planning() -> Finding:
    # nothing is drawn: without a screen MuJoCo must not look for one
    environ = {**os.environ, "MUJOCO_GL": os.environ.get("MUJOCO_GL", "disable")}
    try:
        found = probe("planning", environ)
    except ProbeError as error:
        return Finding(
            "planning", "problem", str(error), "repair what is wrong above, then run tdm doctor again"
        )
    return Finding("planning", "ok", f"a small decision took {found['milliseconds']:.0f} ms")
