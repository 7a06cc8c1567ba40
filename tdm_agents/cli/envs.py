"""``tdm envs``: the environments that there are, pictures of walkers, and sets of them."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from tdm_agents.cli.config_file import keep_config_beside
from tdm_agents.errors import WrongValueError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from tdm_envs.walkers import BodyKey

NAMESPACES = ("tdm/", "dm_control/")


@dataclass(frozen=True)
class List:
    """List the environments with their arguments: walkers, dm_control's suite, variants of its bodies."""

    match: str = ""
    """Text that the listed ids contain."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class Gallery:
    """Draw a family of walkers at the start of an episode: one row per size, one column per body."""

    family: Literal["line", "chain", "bush", "tree"] = "tree"
    """Family of the walkers."""
    dofs: tuple[int, ...] = (4, 8, 12, 20)
    """Numbers of hinges, one row each."""
    bodies: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds of bodies, one column each."""
    out: Path = Path("runs/gallery.png")
    """File of the picture."""


@dataclass(frozen=True)
class Sample:
    """Choose walkers with distinct trees on one side of the split, and write them as a manifest."""

    out: Path
    """File of the manifest (JSON)."""
    count: int
    """Number of bodies per family."""
    families: tuple[str, ...] = ("line", "chain", "bush", "tree")
    """Families of the walkers."""
    split: Literal["train", "test", "all"] = "train"
    """Side of the split: a tenth of all trees is for tests, always and for everyone."""
    dof: tuple[int, int] = (4, 20)
    """Smallest and largest number of hinges."""
    seed: int = 0
    """Seed of the choice."""


@dataclass(frozen=True)
class Check:
    """Rebuild every walker of a manifest and compare it with what was written."""

    manifest: tyro.conf.Positional[Path]
    """The manifest."""


Command = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Gallery, tyro.conf.subcommand("gallery")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Check, tyro.conf.subcommand("check")]
)


@dataclass(frozen=True)
class Envs:
    """Environments: list them, draw walkers, choose sets of walkers and check such sets."""

    command: tyro.conf.OmitSubcommandPrefixes[Command]


@dataclass(frozen=True, slots=True)
class Known:
    """One registered environment.

    Attributes:
        env_id: Id that ``gym.make`` takes after ``import tdm_envs``.
        arguments: Further arguments of ``gym.make``.
        max_episode_steps: Time limit, or None.
        about: What it is, in a sentence.
    """

    env_id: str
    arguments: str
    max_episode_steps: int | None
    about: str


def run(arguments: Envs) -> None:
    """Do what was asked for."""
    command = arguments.command
    environ = dict(os.environ)
    os.environ.setdefault(
        "MUJOCO_GL", "disable"
    )  # this process draws nothing; MuJoCo then looks for no screen
    if isinstance(command, List):
        _list(command)
    elif isinstance(command, Gallery):
        _gallery(command, environ)
    elif isinstance(command, Sample):
        _sample(command)
    else:
        _check(command)


_OURS = {
    "tdm/AntPoints-v0": ("", "An ant that runs to points, one after the other"),
    "tdm/Pixels-v0": (
        "env=, size=, frames=, every=, ...",
        "Any environment, seen through its own pictures",
    ),
}
"""Arguments of environments of this package, and what they are."""


def known(match: str = "") -> list[Known]:
    """The environments that ``import tdm_envs`` registers and whose id contains ``match``."""
    import gymnasium as gym

    import tdm_envs  # noqa: F401  (registers them)
    from tdm_envs.walkers import FAMILIES, MAX_DOF, MIN_DOF
    from tdm_envs.without_dm_control import is_installed

    here = "" if is_installed() else ", not installed here"
    found = []
    for env_id in sorted(gym.registry):
        if not env_id.startswith(NAMESPACES) or match not in env_id:
            continue
        spec = gym.spec(env_id)
        family = spec.kwargs.get("family")
        if family:
            takes = f"dof={MIN_DOF}..{MAX_DOF}, body=0, 1, ..."
            about = (FAMILIES[family].__doc__ or "").splitlines()[0]
        elif env_id == "tdm/Suite-v0":
            takes = "domain=, task=, variant=None, 0, 1, ... or redraw"
            about = f"dm_control's suite, as it is or with other physical constants{here}"
        elif env_id in _OURS:
            takes, about = _OURS[env_id]
        else:
            takes, about = "", f"dm_control's suite, by Shimmy{here}"
        found.append(Known(env_id, takes, spec.max_episode_steps, about))
    return found


def _list(command: List) -> None:
    from rich.console import Console
    from rich.table import Table

    found = known(command.match)
    if command.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
        return
    console, table = Console(), Table()
    # ids are copied by users: the other columns give way, and an id that is too long is continued below
    longest = max((len(one.env_id) for one in found), default=0)
    table.add_column("environment", width=min(longest, console.width // 2), overflow="fold")
    for column in ("arguments", "steps", "about"):
        table.add_column(column, overflow="fold")
    for one in found:
        table.add_row(one.env_id, one.arguments, str(one.max_episode_steps or "no limit"), one.about)
    console.print(table)


def _gallery(command: Gallery, environ: Mapping[str, str]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from tdm_agents.environments import EnvRef
    from tdm_agents.evaluation.video import find_renderer
    from tdm_envs.walkers.families import checked_key

    keys = [checked_key(command.family, dof, body) for dof in command.dofs for body in command.bodies]
    if not keys:
        raise WrongValueError("nothing to draw: expected at least one of --dofs and one of --bodies")
    frames = _frames(keys, find_renderer(EnvRef(keys[0].env_id, module="tdm_envs"), environ))
    rows, columns = len(command.dofs), len(command.bodies)
    figure = Figure(figsize=(2.0 * columns, 1.6 * rows + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{command.family} walkers: degrees of freedom by body", fontsize=10)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, key, frame in zip(axes.flat, keys, frames, strict=True):
        axis.imshow(frame)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        if key.dof == command.dofs[0]:
            axis.set_title(f"body {key.body}", fontsize=8)
        if key.body == command.bodies[0]:
            axis.set_ylabel(f"{key.dof} DoF", fontsize=8)
    command.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(command.out, dpi=100)
    keep_config_beside(command.out, command, "envs gallery")
    print(f"{len(keys)} walkers in {command.out}")


def _frames(keys: list[BodyKey], backend: str) -> list[npt.NDArray[np.uint8]]:
    """Render in a process of its own, because MuJoCo chooses its OpenGL once, when it is imported."""
    before = os.environ["MUJOCO_GL"]
    os.environ["MUJOCO_GL"] = backend
    try:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.map(_frame, keys)
    finally:
        os.environ["MUJOCO_GL"] = before


def _frame(key: BodyKey) -> npt.NDArray[np.uint8]:
    from tdm_envs.walkers import WalkerEnv

    env = WalkerEnv(key.family, key.dof, key.body, render_mode="rgb_array", width=320, height=240)
    env.reset(seed=0)
    frame = env.render()
    env.close()
    assert frame is not None
    return frame


def _sample(command: Sample) -> None:
    from tdm_envs.walkers import sample_bodies, write_manifest

    bodies = [
        key
        for family in command.families
        for key in sample_bodies(family, command.count, command.split, command.seed, dof=command.dof)
    ]
    write_manifest(command.out, bodies)
    keep_config_beside(command.out, command, "envs sample")
    print(f"{len(bodies)} bodies ({command.split}) in {command.out}")


def _check(command: Check) -> None:
    from tdm_envs.walkers import read_manifest

    manifest = read_manifest(command.manifest)
    kinds = zip(manifest.bodies, manifest.splits, strict=True)
    counts = Counter(f"{key.family}, {split}" for key, split in kinds)
    print(f"{command.manifest}: all {len(manifest.bodies)} bodies rebuild as they were written")
    for what, count in sorted(counts.items()):
        print(f"  {what}: {count}")
