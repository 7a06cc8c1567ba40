"""Does any body of the randomised control suite explode?

The 28 tasks of a generalist, double and triple cartpole, and cartpole: dm_control's own body and variants
of it, each for 1000 steps of uniform actions and 1000 of bang-bang actions (every motor at either bound, held
for 10 steps). A body fails where MuJoCo gives up or an observation or reward is not finite. An episode
depends on its task and variant alone, not on the number of processes. Takes some minutes;
``--variants 1 --steps 60`` less than one. What is done is kept in ``--work``, so an interrupted run goes on.

    python benchmarks/suite_stability.py
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from parts import kept

from tdm_agents.evaluation.report import provenance
from tdm_agents.storage import write_json
from tdm_envs.suite_env import SuiteEnv
from tdm_envs.suite_tasks import GENERALIST_WITH_POLES, TARGETS, TaskName
from tdm_envs.walkers import PhysicsDivergedError

HOLD = 10  # steps
KINDS = ("random", "bang-bang")


@dataclass(frozen=True)
class Settings:
    """Which variants, and for how long."""

    out: Path = Path("benchmarks/results/suite_stability.json")
    """Where to write the result."""
    work: Path = Path("runs/suite_stability")
    """What is done so far, a file an episode."""
    variants: int = 8
    """Variants of each task, numbered from 0, besides dm_control's own body."""
    scale: float = 1.4
    """Factors are in [1 / scale, scale]."""
    steps: int = 1000
    """Environment steps of each kind of action."""
    processes: int = 1
    """Worker processes."""


Job = tuple[Path, TaskName, int | None, float, str, int]


def play_once(job: Job) -> dict[str, Any]:
    """What :func:`play` returns, played now or before."""
    work, name, variant, scale, kind, steps = job
    body = "own" if variant is None else str(variant)
    path = work / f"{name.domain}-{name.task}-{body}-{kind}.json"
    asked = {"scale": scale, "steps": steps}
    return kept(path, asked, partial(play, name, variant, scale, kind, steps))


def play(name: TaskName, variant: int | None, scale: float, kind: str, steps: int) -> dict[str, Any]:
    """One body under one kind of action: what it earned and observed, and why it failed or None."""
    began = time.process_time()
    env = SuiteEnv(*name, variant=variant, scale=None if variant is None else scale)
    low, high = env.action_space.low, env.action_space.high
    seed = 0 if variant is None else 1 + variant
    rng = np.random.default_rng(seed)
    failure, total, largest = None, 0.0, 0.0
    action = high
    try:
        env.reset(seed=seed)
        for step in range(steps):
            if kind == "random":
                action = rng.uniform(low, high).astype(np.float32)
            elif step % HOLD == 0:
                action = np.where(rng.integers(0, 2, low.shape) == 1, high, low)
            observation, reward, *_ = env.step(action)
            if not (np.isfinite(observation).all() and np.isfinite(reward)):
                failure = f"step {step} observes or earns what is not finite"
                break
            total += reward
            largest = max(largest, float(np.abs(observation).max()))
    except PhysicsDivergedError as error:
        failure = str(error)
    return {
        "task": f"{name.domain}-{name.task}",
        "variant": variant,
        "actions": kind,
        "failure": failure,
        "return": total,
        "largest_observation": largest,
        "cpu_seconds": time.process_time() - began,
    }


def jobs(settings: Settings) -> Iterable[Job]:
    """Every body under every kind of action."""
    names = (*GENERALIST_WITH_POLES, *TARGETS)
    for name, variant, kind in product(names, (None, *range(settings.variants)), KINDS):
        yield settings.work, name, variant, settings.scale, kind, settings.steps


def main(settings: Settings) -> None:
    """Play, print, and keep."""
    with get_context("spawn").Pool(settings.processes) as pool:
        rows = list(pool.imap(play_once, jobs(settings), chunksize=4))
    summary = []
    for kind, own_body in product(KINDS, (True, False)):
        own = [row for row in rows if row["actions"] == kind and (row["variant"] is None) == own_body]
        failed = [row for row in own if row["failure"]]
        which = "dm_control's bodies" if own_body else "variants"
        summary.append({"actions": kind, "bodies": which, "played": len(own), "failures": len(failed)})
        print(f"{kind:10} {len(failed)} of {len(own)} {which} failed")
        for row in failed:
            print(f"  {row['task']}, variant {row['variant']}: {row['failure']}")
    value = {
        "schema": 1,
        "settings": asdict(settings) | {"out": str(settings.out), "work": str(settings.work)},
        "summary": summary,
        "episodes": rows,
        "cpu_minutes": sum(row["cpu_seconds"] for row in rows) / 60,
        "provenance": provenance(),
    }
    write_json(settings.out, value)
    print(f"kept in {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
