"""Does any walker explode?

Four families, 17 sizes, 12 bodies, each for 1000 steps of uniform actions and 1000 of bang-bang actions
(every motor at either bound, held for 10 steps). A body fails where MuJoCo gives up, its root is faster than
30 m/s or rises by more than 4 m, or a hinge turns faster than 200 rad/s. An episode depends on its body
alone, not on the number of processes. Takes some minutes; ``--bodies 1 --dofs 4 12 20`` a few seconds.

    python benchmarks/walkers_stability.py --processes 2
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from tdm_agents.evaluation.report import provenance
from tdm_agents.storage import write_json
from tdm_envs.walkers import FAMILIES, MAX_DOF, MIN_DOF, PhysicsDivergedError, WalkerEnv

MAX_SPEED = 30.0  # m/s
MAX_RISE = 4.0  # m
MAX_HINGE_VELOCITY = 200.0  # rad/s
HOLD = 10  # steps


@dataclass(frozen=True)
class Settings:
    """Which bodies, and for how long."""

    out: Path = Path("benchmarks/results/walkers_stability.json")
    """Where to write the result."""
    families: tuple[str, ...] = tuple(FAMILIES)
    """Families."""
    dofs: tuple[int, ...] = tuple(range(MIN_DOF, MAX_DOF + 1))
    """Sizes."""
    bodies: int = 12
    """Bodies of each family and size, numbered from 0."""
    steps: int = 1000
    """Environment steps of each kind of action."""
    processes: int = 1
    """Worker processes."""


Job = tuple[str, int, int, str, int]


def play(job: Job) -> dict[str, Any]:
    """One body under one kind of action: the extremes it reached, and why it failed or None."""
    family, dof, body, kind, steps = job
    env = WalkerEnv(family, dof, body)
    rng = np.random.default_rng([dof, body])
    env.reset(seed=body)
    start = float(env.data.qpos[2])
    speed = rise = hinge = 0.0
    failure = None
    action = np.zeros(dof, np.float32)
    for step in range(steps):
        if kind == "random":
            action = rng.uniform(-1.0, 1.0, dof).astype(np.float32)
        elif step % HOLD == 0:
            action = rng.choice(np.array([-1.0, 1.0], np.float32), dof)
        try:
            env.step(action)
        except PhysicsDivergedError as error:
            failure = str(error)
            break
        speed = max(speed, float(np.linalg.norm(env.data.qvel[:3])))
        rise = max(rise, float(env.data.qpos[2]) - start)
        hinge = max(hinge, float(np.abs(env.data.qvel[6:]).max()))
    limits = [
        ("root speed", speed, MAX_SPEED),
        ("rise", rise, MAX_RISE),
        ("hinge", hinge, MAX_HINGE_VELOCITY),
    ]
    failure = failure or next(
        (f"{what} {value:.1f} > {most}" for what, value, most in limits if value > most), None
    )
    return {
        "family": family,
        "dof": dof,
        "body": body,
        "actions": kind,
        "failure": failure,
        "root_speed": speed,
        "rise": rise,
        "hinge_velocity": hinge,
    }


def jobs(settings: Settings) -> Iterable[Job]:
    """Every body under every kind of action."""
    bodies = range(settings.bodies)
    for family, dof, body, kind in product(settings.families, settings.dofs, bodies, ("random", "bang-bang")):
        yield family, dof, body, kind, settings.steps


def main(settings: Settings) -> None:
    """Play, print, and keep."""
    began = time.perf_counter()
    with get_context("spawn").Pool(settings.processes) as pool:
        rows = list(pool.imap(play, jobs(settings), chunksize=4))
    summary = []
    for family, kind in product(settings.families, ("random", "bang-bang")):
        own = [row for row in rows if row["family"] == family and row["actions"] == kind]
        failed = [row for row in own if row["failure"]]
        worst = {name: max(row[name] for row in own) for name in ("root_speed", "rise", "hinge_velocity")}
        summary.append(
            {"family": family, "actions": kind, "bodies": len(own), "failures": len(failed)} | worst
        )
        print(
            f"{family:6} {kind:10} {len(failed)} of {len(own)} bodies failed; at most "
            f"{worst['root_speed']:.1f} m/s, {worst['rise']:.1f} m up, {worst['hinge_velocity']:.0f} rad/s"
        )
        for row in failed:
            print(f"  dof {row['dof']}, body {row['body']}: {row['failure']}")
    value = {
        "schema": 1,
        "settings": asdict(settings) | {"out": str(settings.out)},
        "limits": {"root_speed": MAX_SPEED, "rise": MAX_RISE, "hinge_velocity": MAX_HINGE_VELOCITY},
        "summary": summary,
        "failures": [row for row in rows if row["failure"]],
        "minutes": (time.perf_counter() - began) / 60,
        "provenance": provenance(),
    }
    write_json(settings.out, value)
    print(f"kept in {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
