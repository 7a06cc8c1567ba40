"""What does an agent reach within a deadline, and how often is it late, on a core that it shares?

This process and another one, which never rests, are bound to the same core. Each contestant plays every
deadline, one environment at a time.

    tdm distill --teacher cartpole-swingup --out runs/distill/cartpole --report-episodes 0 --updates 1500
    python benchmarks/deadlines.py
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

import keep
from deadlines_plot import plot_delays
from tdm_agents import TDMAgent, evaluate
from tdm_agents.agent.agent_files import load_model, resolve
from tdm_agents.collection.seeds import EVALUATION_FIRST
from tdm_agents.evaluation.report import summary
from tdm_agents.registry import make_planner
from tdm_agents.wrappers import WithValue

ENV_ID = "dm_control/cartpole-swingup-v0"
MPPI: dict[str, float] = {"noise_beta": 2.0, "initial_std": 0.5}
FAR: dict[str, float] = {"horizon": 25, "num_samples": 256, "iterations": 3}
"""For the student: more candidates than fit into any of the deadlines."""
NEAR: dict[str, float] = {"horizon": 5, "num_samples": 32, "iterations": 2, "discount": 0.99}
"""With a value for what comes after the horizon."""
VALUE = "cartpole-swingup-value"


@dataclass(frozen=True)
class Settings:
    """Deadlines and files."""

    student: Path = Path("runs/distill/cartpole")
    """Folder of `tdm distill`."""
    deadlines: tuple[float, ...] = (0.005, 0.02, 0.04, 0.1)
    """Seconds per decision."""
    episodes: int = 3
    """Episodes of each contestant per deadline, on evaluation seeds."""
    core: int = 0
    """The core that both processes share."""
    parts: Path = Path("runs/deadlines")
    """Folder of what was measured already."""
    out: Path = Path("benchmarks/results/deadlines.json")
    """The result."""
    plot: Path = Path("docs/deadlines.png")
    """The figure."""


WHO = ("student", "student, a value", "TDM", "TDM, a value")


def agent(name: str, deadline: float, settings: Settings) -> TDMAgent:
    """One of those who play."""
    source = "cartpole-swingup" if name.startswith("TDM") else settings.student
    if name == "TDM":
        return TDMAgent.load(source, deadline=deadline)
    model, size = load_model(resolve(source)), FAR
    if name.endswith("value"):
        value: Any = load_model(resolve(VALUE))
        model, size = WithValue(model, value), NEAR
    planner = make_planner("mppi", **MPPI, **size)
    return TDMAgent(model, planner, env_id=ENV_ID, reward_function=ENV_ID, deadline=deadline)


def busy(core: int) -> None:
    """Compute on a core for as long as the process lives that asked for it."""
    os.sched_setaffinity(0, {core})
    parent = os.getppid()
    while os.getppid() == parent:
        sum(range(100_000))


@contextmanager
def shared_core(core: int) -> Iterator[None]:
    """Bind this process to a core, on which another one computes."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    other = multiprocessing.get_context("spawn").Process(target=busy, args=(core,), daemon=True)
    other.start()
    try:
        yield
    finally:
        other.kill()
        other.join()
        os.sched_setaffinity(0, before)


def played(name: str, deadline: float, settings: Settings) -> dict[str, Any]:
    """Returns, and how late every decision was, in milliseconds (negative: before its deadline)."""
    player = agent(name, deadline, settings)
    views: list[Any] = []

    def look(_tick: object) -> None:
        view = player.last_plan
        if view is not None and (not views or views[-1] is not view):
            views.append(view)

    evaluate(player, ENV_ID, [EVALUATION_FIRST], seed=0, max_steps=40)  # compiles, and learns the pace
    seeds = range(EVALUATION_FIRST, EVALUATION_FIRST + settings.episodes)
    found = evaluate(player, ENV_ID, seeds, seed=0, batch=1, on_step=look)
    delays = [1e3 * view.late for view in views]
    return {
        "summary": summary(found),
        "returns": found.scores,
        "late_share": float(np.mean(np.array(delays) > 0.0)),
        "late_milliseconds": {str(q): float(np.percentile(delays, q)) for q in (50, 90, 99, 99.9, 100)},
        "candidates": float(np.mean([view.plan.stats["samples"] for view in views])),
        "delays": [round(delay, 3) for delay in delays],
    }


def main(settings: Settings) -> None:
    """Measure, print, draw and keep."""
    torch.set_num_threads(1)
    rows: dict[str, dict[str, Any]] = {name: {} for name in WHO}
    with shared_core(settings.core):
        for name, row in rows.items():
            for seconds in settings.deadlines:
                made = {"deadline": seconds, "episodes": settings.episodes, "student": str(settings.student)}
                path = settings.parts / f"{name}-{1e3 * seconds:g}.json"
                row[f"{1e3 * seconds:g}"] = keep.part(path, made, partial(played, name, seconds, settings))
    table = Table("", "deadline", "mean return", "late", "99 % are late by at most", "candidates")
    for name, row in rows.items():
        for deadline, cell in row.items():
            table.add_row(
                name,
                f"{deadline} ms",
                f"{cell['summary']['mean']:.0f}",
                f"{100 * cell['late_share']:.2f} %",
                f"{cell['late_milliseconds']['99']:.1f} ms",
                f"{cell['candidates']:.0f}",
            )
    Console().print(table)
    plot_delays(settings.plot, rows)
    kept = {
        n: {d: {k: v for k, v in c.items() if k != "delays"} for d, c in r.items()} for n, r in rows.items()
    }
    keep.result(settings.out, settings, weights=settings.student / "weights.safetensors", rows=kept)


if __name__ == "__main__":
    main(tyro.cli(Settings))
