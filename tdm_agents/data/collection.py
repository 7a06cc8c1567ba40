"""Collect whole episodes in worker processes, so that nothing is lost or done twice however often it stops.

Every episode is a function of its key (policy, index) and the collection's seed, and lies in a file of its
own from the moment it ends. Run again, a collection plays the missing episodes only. When all are there they
become one Minari data set and the files go.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tdm_agents.data.minari_io import EPISODES_FOLDER, DataError, write_dataset
from tdm_agents.data.play import make_env
from tdm_agents.data.policies import BehaviourPolicy
from tdm_agents.data.shards import read_shard
from tdm_agents.data.workers import EpisodeDone, Job, play_all, told
from tdm_agents.storage import write_bytes

SETTINGS_FILE = "settings.json"


def collect(
    env_id: str,
    mix: Sequence[tuple[BehaviourPolicy, int]],
    out: str | os.PathLike[str],
    *,
    action_repeat: int = 1,
    seed: int = 0,
    workers: int = 1,
    max_steps: int | None = None,
    watch: Callable[[EpisodeDone], None] | None = None,
) -> Path:
    """Play episodes and write them as a Minari data set of raw environment steps.

    Interrupted at any moment, the same call goes on where it stopped, with the same result. Numbers of
    episodes and workers may change between calls, nothing else.

    Args:
        env_id: For ``gymnasium.make``; ``module:ID`` imports what registers it.
        mix: Policies with different names, and how many episodes of each.
        out: Folder of the data set; ``out/data`` is written last.
        action_repeat: Environment steps that each action is held.
        seed: Of the collection, at least 0. Environment resets use the range of
            :mod:`tdm_agents.data.seeds` that no evaluation uses.
        workers: Processes, one thread each.
        max_steps: Environment steps after which an episode is cut off, for environments without an end.
        watch: Called in this process for every episode.

    Returns:
        ``out/data``.

    Raises:
        DataError: If ``out`` holds a collection with other settings, or other files.
        ValueError: If a setting makes no sense.
    """
    settings = check(
        env_id, mix, out, action_repeat=action_repeat, seed=seed, workers=workers, max_steps=max_steps
    )
    out = Path(out)
    counts = {policy.name: count for policy, count in mix}
    if (out / "data").exists():
        shutil.rmtree(out / EPISODES_FOLDER, ignore_errors=True)  # killed between the two
        return out / "data"

    folder = out / EPISODES_FOLDER
    if not (folder / SETTINGS_FILE).exists():
        write_bytes(folder / SETTINGS_FILE, json.dumps(settings, indent=2).encode())
    jobs = [
        Job(env_id, policy, index, action_repeat, seed, max_steps, folder)
        for policy, count in mix
        for index in range(count)
    ]
    missing = []
    for job in jobs:
        if not job.path.exists():
            missing.append(job)
        elif watch is not None:
            watch(told(job, read_shard(job.path), played=False))
    # a fixed shuffle: the time left is right from the start though planner episodes take longer
    order = np.random.default_rng(0).permutation(len(missing))
    with closing(play_all([missing[i] for i in order], workers)) as played:  # Ctrl-C must end the workers
        for done in played:
            if watch is not None:
                watch(done)

    env = make_env(env_id)
    try:
        data = write_dataset(
            out,
            env,
            (read_shard(job.path) for job in jobs),
            description=f"{env_id}: "
            + ", ".join(f"{count} episodes of {name}" for name, count in counts.items())
            + f"; actions held for {action_repeat} environment steps.",
            metadata={"collection": json.dumps({"settings": settings, "episodes": counts}, sort_keys=True)},
        )
    finally:
        env.close()
    shutil.rmtree(folder)
    return data


def check(
    env_id: str,
    mix: Sequence[tuple[BehaviourPolicy, int]],
    out: str | os.PathLike[str],
    *,
    action_repeat: int = 1,
    seed: int = 0,
    workers: int = 1,
    max_steps: int | None = None,
) -> dict[str, Any]:
    """Refuse what :func:`collect` would refuse, and touch nothing; the arguments are its own.

    Returns:
        The settings that make the collection what it is, as they are written down.

    Raises:
        DataError: If ``out`` holds a collection with other settings, or other files.
        ValueError: If a setting makes no sense.
    """
    counts = {policy.name: count for policy, count in mix}
    if len(counts) < len(mix) or sum(counts.values()) < 1:
        raise ValueError(f"mix {mix}: expected at least one episode, and policies with different names")
    at_least_one = {"action_repeat": action_repeat, "workers": workers, "max_steps": max_steps}
    for name, value in at_least_one.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1")
    for name, value in {"seed": seed, **{f"episodes of {name!r}": n for name, n in counts.items()}}.items():
        if value < 0:
            raise ValueError(f"{name} is {value}; expected at least 0")
    settings = {
        "env_id": env_id,
        "action_repeat": action_repeat,
        "seed": seed,
        "max_steps": max_steps,
        "policies": {p.name: {"kind": type(p).__name__, **_plain(p)} for p, _ in mix},
    }
    _check_folder(Path(out), settings, counts)
    return settings


def _plain(policy: BehaviourPolicy) -> dict[str, Any]:
    """The settings of a policy as JSON sees them (tuples become lists)."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(policy)))  # type: ignore[call-overload]
    return plain


def _check_folder(out: Path, settings: dict[str, Any], counts: dict[str, int]) -> None:
    unfinished = out / EPISODES_FOLDER
    if (out / "data").exists():
        _check_finished(out / "data", settings, counts)
    elif (unfinished / SETTINGS_FILE).exists():
        _check_same(unfinished, json.loads((unfinished / SETTINGS_FILE).read_text()), settings)
    elif out.exists() and not unfinished.exists():
        others = sorted(path.name for path in out.iterdir())
        if others:
            raise DataError(
                f"{out} holds {others[0]!r} and no collection of `tdm collect`; choose another folder, "
                "or empty this one"
            )


def _check_finished(data: Path, settings: dict[str, Any], counts: dict[str, int]) -> None:
    metadata = data / "metadata.json"
    stored = json.loads(metadata.read_text()).get("collection") if metadata.exists() else None
    if stored is None:
        raise DataError(f"{data} is a data set that `tdm collect` did not write; choose another folder")
    found = json.loads(stored)
    _check_same(data, {**found["settings"], "episodes": found["episodes"]}, {**settings, "episodes": counts})


def _check_same(where: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key in wanted:
        if found.get(key) != wanted[key]:
            raise DataError(
                f"{where} was collected with {key} {found.get(key)!r}, now {wanted[key]!r} is asked for; "
                "choose another folder, repeat the first command, or remove this one"
            )
