r"""Returns on cartpole-swingup: the shipped TDM, an MLP, and the true simulator, with the same planners.

There are ten episodes on evaluation seeds, which neither collection nor tuning has seen; the settings were
frozen before. Each contestant's report is kept as soon as it is done, so an interrupted run goes on, and
several processes may share the work (``--only``).

    tdm train --data runs/make_checkpoint/data --model mlp --out runs/mlp --steps 45000 \
        --batch-size 64 --learning-rate 1e-3
    python benchmarks/cartpole_returns.py --mlp runs/mlp
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console

from tdm_agents import SimulatorModel, TDMAgent, make_planner
from tdm_agents.actors.agents import AgentFactory
from tdm_agents.actors.functions import UniformActions
from tdm_agents.agent.agent_files import load_model, resolve
from tdm_agents.collection.seeds import EVALUATION_FIRST
from tdm_agents.environments import make_env
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.evaluation.progress_bar import ProgressBar
from tdm_agents.evaluation.report import make_report, table, write_report
from tdm_agents.protocols import Planner
from tdm_envs.suite import batched_task

ENV_ID = "dm_control/cartpole-swingup-v0"
ACTION_REPEAT = 4
# the same K and H for every model; tuned on the simulator, on other seeds
GAUSSIAN = {"horizon": 25, "num_samples": 32, "iterations": 2, "noise_beta": 2.0, "initial_std": 0.5}
PLANNERS: dict[str, Planner] = {
    "mppi": make_planner("mppi", **GAUSSIAN),
    "cem": make_planner("cem", **GAUSSIAN),
    "random_shooting": make_planner("random_shooting", horizon=25, num_samples=128),
}
# the simulator's planner where candidates cost little
BEST: Planner = make_planner("mppi", **GAUSSIAN | {"num_samples": 64, "iterations": 3})


@dataclass(frozen=True)
class Settings:
    """Contestants, episodes and files."""

    mlp: Path | None = None
    """Folder of the MLP baseline, trained on the same data for the same time; None leaves it out."""
    checkpoint: str = "cartpole-swingup"
    """Folder of the TDM."""
    episodes: int = 10
    """Episodes per contestant."""
    only: tuple[str, ...] = ()
    """Contestants to play, such as ``tdm-mppi``; all if empty."""
    threads: int = 1
    """Threads of PyTorch and of the simulator."""
    batch: int | None = None
    """Episodes side by side; all if not given. Use fewer where memory bandwidth is short."""
    parts: Path = Path("benchmarks/results/cartpole_returns")
    """Folder of the reports, one per contestant."""
    out: Path = Path("benchmarks/results/cartpole_returns.json")
    """File of all summaries, written once every contestant has played."""


@dataclass(frozen=True)
class Contestant:
    """A contestant, built when it is its turn."""

    label: str
    build: Callable[[], Any]
    planner: Planner | None = None
    weights: Path | None = None


def contestants(settings: Settings) -> dict[str, Contestant]:
    """All contestants, by name."""
    found = {"random": Contestant("random actions", random_policy)}
    folders = {"tdm": resolve(settings.checkpoint)}
    if settings.mlp is not None:
        folders["mlp"] = settings.mlp
    for name, planner in PLANNERS.items():
        for model, folder in folders.items():
            found[f"{model}-{name}"] = Contestant(
                f"{model.upper()}, {name}",
                partial(learned, folder, planner),
                planner,
                folder / "weights.safetensors",
            )
        found[f"simulator-{name}"] = Contestant(
            f"true simulator, {name}", partial(simulator, settings, planner), planner
        )
    found["simulator-best"] = Contestant(
        "true simulator, mppi at its best", partial(simulator, settings, BEST), BEST
    )
    return found


def random_policy() -> UniformActions:
    """A policy of uniform actions."""
    env = make_env(ENV_ID)
    space = env.action_space
    env.close()
    return UniformActions(space, 0)


def learned(folder: Path, planner: Planner) -> TDMAgent:
    """An agent with a trained model of any kind, scored by the task's own reward function."""
    return TDMAgent(load_model(folder, "cpu"), planner, env_id=ENV_ID, reward_function=ENV_ID)


def simulator(settings: Settings, planner: Planner) -> AgentFactory:
    """An agent with the true dynamics, scored by the same reward function."""
    return AgentFactory(
        lambda envs: SimulatorModel(envs, ACTION_REPEAT, threads=settings.threads, fast=batched_task(ENV_ID)),
        planner,
        ENV_ID,
    )


def main(settings: Settings) -> None:
    """Play what has not been played, print the table and keep it."""
    torch.set_num_threads(settings.threads)
    everyone = contestants(settings)
    if unknown := sorted(set(settings.only) - set(everyone)):
        raise SystemExit(f"no contestant {unknown[0]!r}; there are {', '.join(everyone)}")
    seeds = range(EVALUATION_FIRST, EVALUATION_FIRST + settings.episodes)
    for name in settings.only or everyone:
        contestant = everyone[name]
        planner = contestant.planner
        part = settings.parts / f"{name}.json"
        if part.exists():
            continue
        with ProgressBar(contestant.label) as progress:
            evaluation = evaluate(
                contestant.build(), ENV_ID, seeds, seed=0, batch=settings.batch, on_step=progress
            )
        chosen = {
            "planner": None if planner is None else type(planner).__name__,
            "planner_settings": planner,
            "action_repeat": ACTION_REPEAT,
            "reward_function": ENV_ID,
            "threads": settings.threads,
            "batch": settings.batch,
            "seed": 0,
        }
        write_report(
            part, make_report(contestant.label, evaluation, settings=chosen, weights=contestant.weights)
        )
    reports = [json.loads(p.read_text()) for n in everyone if (p := settings.parts / f"{n}.json").exists()]
    Console().print(table(reports, title=f"{ENV_ID}, {settings.episodes} episodes"))
    if len(reports) == len(everyone):
        summaries = {r["contestant"]: r["summary"] for r in reports}
        stated = asdict(settings) | {n: str(getattr(settings, n)) for n in ("mlp", "parts", "out")}
        write_report(settings.out, {"schema": 1, "settings": stated, "summaries": summaries})
        print(f"kept in {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
