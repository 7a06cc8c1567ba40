"""How many environment steps per second does a walker make, and how long does building a body take?

It is measured in one process on one core with random actions, beside Gymnasium's Ant-v5 and dm_control's
walker and quadruped in the same run. Times are CPU time, so that other processes on the machine count less
(they still share caches and units of cores), and wall-clock time; medians are over strictly alternating
repetitions.

    python benchmarks/walkers_speed.py
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import tyro

import tdm_envs  # noqa: F401  (registers the environments)
from keep import result
from tdm_envs.walkers import FAMILIES, build_body, build_spec


@dataclass(frozen=True)
class Settings:
    """Bodies, steps and files."""

    out: Path = Path("benchmarks/results/walkers_speed.json")
    """Where to write the result."""
    dofs: tuple[int, ...] = (4, 8, 12, 16, 20)
    """Sizes."""
    bodies: int = 3
    """Bodies per family and size."""
    steps: int = 1000
    """Environment steps per repetition."""
    repeats: int = 3
    """Repetitions."""
    others: tuple[str, ...] = ("Ant-v5", "dm_control/walker-walk-v0", "dm_control/quadruped-walk-v0")
    """Environments to compare with."""


def steps_per_second(env: gym.Env[Any, Any], steps: int) -> tuple[float, float]:
    """Environment steps per CPU second and per second, with the resets after ends of episodes."""
    space = env.action_space
    assert isinstance(space, gym.spaces.Box)
    actions = (
        np.random.default_rng(0).uniform(space.low, space.high, (steps, *space.shape)).astype(space.dtype)
    )
    env.reset(seed=0)
    began, began_wall = time.process_time(), time.perf_counter()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return steps / (time.process_time() - began), steps / (time.perf_counter() - began_wall)


def build_milliseconds(dof: int, bodies: int) -> list[float]:
    """The CPU time to grow and compile each body."""
    taken = []
    for family in FAMILIES:
        for body in range(bodies):
            began = time.process_time()
            build_spec(build_body(family, dof, body)).compile()
            taken.append(1e3 * (time.process_time() - began))
    return taken


def main(settings: Settings) -> None:
    """Measure, print and keep."""
    envs: dict[str, list[gym.Env[Any, Any]]] = {name: [gym.make(name)] for name in settings.others}
    for dof in settings.dofs:
        envs[f"walkers, {dof} DoF"] = [
            gym.make(f"tdm/Walker{family.capitalize()}-v0", dof=dof, body=body)
            for family in FAMILIES
            for body in range(settings.bodies)
        ]
    speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in envs}
    for _ in range(settings.repeats):
        for name, group in envs.items():
            speeds[name] += [steps_per_second(env, settings.steps) for env in group]
    rows = []
    for name, both in speeds.items():
        found, wall = ([speed[i] for speed in both] for i in (0, 1))
        rows.append(
            {
                "env": name,
                "median": statistics.median(found),
                "low": min(found),
                "high": max(found),
                "median_wall": statistics.median(wall),
            }
        )
        print(
            f"{name:32} {rows[-1]['median']:8,.0f} steps per CPU second ({min(found):,.0f} to "
            f"{max(found):,.0f}); {rows[-1]['median_wall']:,.0f} per second"
        )
    build = {dof: statistics.median(build_milliseconds(dof, settings.bodies)) for dof in settings.dofs}
    for dof, taken in build.items():
        print(f"a body of {dof} DoF is built in {taken:.1f} ms")
    result(
        settings.out,
        settings,
        steps_per_second=rows,
        load_average=os.getloadavg(),
        build_milliseconds={str(dof): taken for dof, taken in build.items()},
    )


if __name__ == "__main__":
    main(tyro.cli(Settings))
