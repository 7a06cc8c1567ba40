"""Does an agent stay as it was? 100,000 calls on a cheap model: memory flat, no slowdown.

The linear-quadratic point mass, planned for with a few candidates, in three loops, each in a process of its
own, one after the other: ``act`` in a plain loop with resets; ``predict`` with its state; ``act`` in an
attached vector environment whose episodes end apart. Kept for each block of calls: resident memory after it,
and milliseconds a call, of processor time (which a busy machine disturbs less) and of wall-clock time.

What is stated: how far resident memory grew, and by what factor a call became slower, from the first to the
last tenth of the blocks. The very first block is left out: it fills caches.

    python benchmarks/long_run.py
"""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from rich.console import Console
from rich.table import Table

from tdm_agents import TDMAgent, make_planner
from tdm_agents.evaluation.report import provenance
from tdm_agents.protocols import ModelSpec
from tdm_agents.storage import read_json, write_json
from tdm_agents.testing import LinearQuadraticModel

SCHEMA = 1
PLANNER = {"horizon": 3, "num_samples": 4, "iterations": 1, "num_elites": 2}
EPISODE_STEPS = (37, 53)  # in turns by environment, so that those of a vector environment end apart
HISTORY_STEPS, ACTION_REPEAT = 8, 4


@dataclass(frozen=True)
class Settings:
    """How long."""

    out: Path = Path("benchmarks/results/long_run.json")
    """Where to write the result."""
    calls: int = 100_000
    """Of ``act`` in the plain loop."""
    other_calls: int = 20_000
    """Of each other loop."""
    block: int = 1_000
    """Calls after which memory and time are read."""
    envs: int = 2
    """Environments of the vector loop."""


class Remembering(LinearQuadraticModel):
    """The linear-quadratic model, given a history that is kept, and a time step of four environment steps."""

    @property
    def spec(self) -> ModelSpec:
        """Spaces, sizes and time step."""
        return replace(super().spec, history_steps=HISTORY_STEPS, action_repeat=ACTION_REPEAT)


class Point(gym.Env[Any, Any]):
    """The point mass as an environment.

    Args:
        steps: Of an episode.
    """

    observation_space = LinearQuadraticModel().spec.observation_space
    action_space = LinearQuadraticModel().spec.action_space

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        """A random position and velocity."""
        super().reset(seed=seed)
        self.x = self.np_random.normal(size=2).astype(np.float32)
        self.left = self.steps
        return self.x.copy(), {}

    def step(self, action: Any) -> tuple[np.ndarray[Any, Any], float, bool, bool, dict[str, Any]]:
        """Push."""
        speed = self.x[1] + 0.5 * float(action[0])
        self.x = np.array([self.x[0] + 0.5 * speed, speed], np.float32)
        self.left -= 1
        return self.x.copy(), -float(self.x @ self.x), False, self.left == 0, {}


Loop = Callable[[TDMAgent, int], Iterator[None]]
"""Yields after each call."""


def act(agent: TDMAgent, envs: int) -> Iterator[None]:
    """A plain loop with resets."""
    env = Point(EPISODE_STEPS[0])
    env.reset(seed=0)
    while True:
        obs, _ = env.reset()
        agent.reset()
        done, reward = False, None
        while not done:
            obs, reward, terminated, truncated, _ = env.step(agent.act(obs, reward=reward))
            done = terminated or truncated
            yield


def predict(agent: TDMAgent, envs: int) -> Iterator[None]:
    """A loop that hands ``predict`` its state, over all episodes."""
    env = Point(EPISODE_STEPS[0])
    obs, _ = env.reset(seed=0)
    state, start = None, True
    while True:
        action, state = agent.predict(obs, state, start, deterministic=True)
        obs, _, terminated, truncated, _ = env.step(action)
        start = terminated or truncated
        if start:
            obs, _ = env.reset()
        yield


def vector(agent: TDMAgent, envs: int) -> Iterator[None]:
    """``act`` in an attached vector environment."""
    makers = [partial(Point, EPISODE_STEPS[i % len(EPISODE_STEPS)]) for i in range(envs)]
    env = agent.attach(SyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP))
    obs, _ = env.reset(seed=0)
    while True:
        obs, *_ = env.step(agent.act(obs))
        yield


LOOPS: dict[str, Loop] = {"act": act, "predict": predict, "attached vector": vector}


def measured(name: str, count: int, settings: Settings) -> dict[str, Any]:
    """Memory and time of every block of ``count`` calls of a loop."""
    torch.set_num_threads(1)
    agent = TDMAgent(Remembering(), make_planner("cem", **PLANNER), seed=0)
    calls = LOOPS[name](agent, settings.envs)
    blocks: dict[str, list[float]] = {"resident_mb": [], "cpu_milliseconds": [], "wall_milliseconds": []}
    objects = []
    for _ in range(count // settings.block):
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(settings.block):
            next(calls)
        blocks["cpu_milliseconds"].append(1e3 * (time.process_time() - cpu) / settings.block)
        blocks["wall_milliseconds"].append(1e3 * (time.perf_counter() - wall) / settings.block)
        blocks["resident_mb"].append(resident_mb())
        objects.append(len(gc.get_objects()))
    return {
        "calls": count,
        "summary": summary(blocks, objects),
        "blocks": blocks | {"python_objects": objects},
    }


def summary(blocks: dict[str, list[float]], objects: list[int]) -> dict[str, float]:
    """From the first to the last tenth of the blocks, without the very first."""
    tenth = max(1, len(objects) // 10)

    def ends(values: list[float] | list[int]) -> tuple[float, float]:
        return statistics.median(values[1 : 1 + tenth]), statistics.median(values[-tenth:])

    memory, cpu, wall, found = (
        ends(values)
        for values in (
            blocks["resident_mb"],
            blocks["cpu_milliseconds"],
            blocks["wall_milliseconds"],
            objects,
        )
    )
    return {
        "resident_mb": memory[1],
        "resident_growth_mb": memory[1] - memory[0],
        "python_objects_growth": found[1] - found[0],
        "cpu_milliseconds": cpu[1],
        "cpu_slowdown": cpu[1] / cpu[0],
        "wall_slowdown": wall[1] / wall[0],
    }


def resident_mb() -> float:
    """Memory that this process holds, in MB; what Linux says of it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def main(settings: Settings) -> None:
    """Run every loop that is not kept, print, keep."""
    counts = dict.fromkeys(LOOPS, settings.other_calls) | {"act": settings.calls}
    if min(counts.values()) < 3 * settings.block:
        raise SystemExit(
            f"calls are {settings.calls} and {settings.other_calls}; expected three blocks of "
            f"{settings.block} or more"
        )
    stated = {
        "schema": SCHEMA,
        "settings": asdict(settings) | {"out": str(settings.out)},
        "planner": {"name": "cem", **PLANNER},
        "history_steps": HISTORY_STEPS,
        "action_repeat": ACTION_REPEAT,
        "episode_steps": list(EPISODE_STEPS),
    }
    loops: dict[str, Any] = {}
    if settings.out.exists():
        kept = read_json(settings.out, schema=SCHEMA)
        found = kept.pop("loops")
        loops = found if kept == stated else {}
    table = Table("loop", "calls", "resident MB", "growth", "CPU ms a call", "slower by")
    for name, count in counts.items():
        if name not in loops:
            with get_context("spawn").Pool(1) as pool:
                loops[name] = pool.apply(measured, (name, count, settings)) | {"provenance": provenance()}
            write_json(settings.out, stated | {"loops": loops})
        s = loops[name]["summary"]
        table.add_row(
            name,
            str(count),
            f"{s['resident_mb']:.0f}",
            f"{s['resident_growth_mb']:+.2f}",
            f"{s['cpu_milliseconds']:.2f}",
            f"{s['cpu_slowdown']:.2f}",
        )
    Console().print(table)
    print(f"kept in {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
