"""What is it worth to know where episodes end? Hopper-v5 or InvertedPendulum-v5, with and without ``alive``.

This collects, trains a small TDM and an MLP on the same data, and plays each twice, with the same weights and
the same planner: unchanged, and as if no episode ended (``alive=false``). Beside them play the true
simulator, which ends as the environment does, and random actions. If interrupted, the same command goes on.
Every setting is frozen here; the planner's were chosen on the true simulator, on tuning seeds.

    python benchmarks/terminations.py --task inverted-pendulum
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich.console import Console

from tdm_agents.actors.behaviour import PlannerPolicy, RandomPolicy
from tdm_agents.agent.agent_files import load_model, settings_of, write_settings
from tdm_agents.cli.compare import REPORT_FILE, Compare
from tdm_agents.cli.compare import run as run_comparison
from tdm_agents.cli.train import run as run_training
from tdm_agents.cli.train_options import Train
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import EnvRef
from tdm_agents.evaluation.report import provenance
from tdm_agents.registry import make_planner
from tdm_agents.storage import write_json
from tdm_agents.training.train_config import TrainConfig


@dataclass(frozen=True)
class Task:
    """An environment whose episodes end, with settings of its collection and evaluation.

    Attributes:
        collection: Episodes to learn from.
        max_steps: Environment steps after which an evaluation episode is cut; None for the environment's own.
    """

    collection: DatasetSpec
    max_steps: int | None = None


TASKS = {
    "hopper": Task(
        DatasetSpec(
            env=EnvRef("Hopper-v5"),
            mix=(
                (RandomPolicy(), 1000),
                (PlannerPolicy("mppi", {"horizon": 20, "num_samples": 16, "iterations": 1}), 160),
            ),
            action_repeat=4,
            max_steps=400,
        )
    ),
    # every step pays 1, so that a plan which ignores ends has nothing to choose by
    "inverted-pendulum": Task(
        DatasetSpec(
            env=EnvRef("InvertedPendulum-v5"),
            mix=(
                (RandomPolicy(), 400),
                (PlannerPolicy("mppi", {"horizon": 20, "num_samples": 16, "iterations": 1}), 80),
            ),
            action_repeat=1,
            max_steps=150,
        ),
        max_steps=300,
    ),
}
HELD_OUT: dict[str, Any] = {"horizons": (1, 5, 10), "starts": 64, "context_steps": 2}
TRAINING = {
    "transformer": TrainConfig(
        steps=1500, batch_size=24, window_steps=8, learning_rate=3e-3, bf16=True, **HELD_OUT
    ),
    "mlp": TrainConfig(
        steps=3000, batch_size=64, window_steps=8, learning_rate=1e-3, evaluate_every=1000, **HELD_OUT
    ),
}
PLANNER = make_planner("mppi", horizon=20, num_samples=32, iterations=1)
LABELS = {"transformer": "TDM", "mlp": "MLP"}
FOUND_FILE = "found.json"


@dataclass(frozen=True)
class Settings:
    """Environment, episodes and files."""

    task: Literal["hopper", "inverted-pendulum"] = "hopper"
    """The environment."""
    work: Path = Path("runs/terminations")
    """Data, training runs and finished episodes, one folder per task; an interrupted run goes on there."""
    out: Path = Path("benchmarks/results")
    """Folder of terminations_TASK.json: returns, the models' prediction of ends, data, settings, hashes."""
    episodes: int = 10
    """Episodes per contestant."""
    workers: int = 1
    """Processes of the collection."""
    threads: int = 1
    """Threads of PyTorch and of the simulator."""


def trained(kind: str, dataset: DatasetSpec, data: Path, folder: Path, console: Console) -> dict[str, Any]:
    """Train a model, or read the results of its finished training."""
    found = folder / FOUND_FILE
    if not found.exists():
        training = TRAINING[kind]
        run = Train(
            data=(data,),
            out=folder,
            model=kind,
            action_repeat=dataset.action_repeat,
            suit_sizes=False,
            training=training,
        )
        result = run_training(run, console=console)
        write_settings(folder, settings_of(PLANNER, None, str(dataset.env)))
        write_json(found, {"training": asdict(training), "metrics": dict(result.metrics)})
    value: dict[str, Any] = json.loads(found.read_text())
    model: Any = load_model(folder)
    return value | {
        "model": asdict(model.config),
        "parameters": sum(p.numel() for p in model.parameters()),
        "provenance": provenance(folder / "weights.safetensors"),
    }


def entries(folders: Mapping[str, Path]) -> tuple[str, ...]:
    """The contestants, all with the same planner."""
    found = [f"simulator like={folders['mlp']} label='true simulator'"]
    for kind, folder in folders.items():
        found.append(f"{folder} label={LABELS[kind]}")
        found.append(f"{folder} alive=false label='{LABELS[kind]} without alive'")
    return (*found, "random")


def main(settings: Settings) -> None:
    """Collect, train, compare."""
    torch.set_num_threads(settings.threads)
    console = Console(stderr=True)
    task, work = TASKS[settings.task], settings.work / settings.task
    dataset = task.collection
    data = collect(
        dataset,
        work / "data",
        workers=settings.workers,
        watch=lambda done: console.print(f"{done.policy} {done.episode_return:.0f}", end="  "),
    )
    folders = {kind: work / kind for kind in TRAINING}
    models = {kind: trained(kind, dataset, data, folder, console) for kind, folder in folders.items()}
    run_comparison(
        Compare(
            entry=entries(folders),
            env_id=(str(dataset.env),),
            episodes=settings.episodes,
            batch=settings.episodes,
            max_steps=task.max_steps,
            threads=settings.threads,
            out=work / "comparison",
        )
    )
    trajectories = Trajectories.from_minari(data, action_repeat=dataset.action_repeat)
    ended = sum(not trajectories.episode(e).alive[-1] for e in range(trajectories.num_episodes))
    value = {
        "schema": 1,
        "data": {
            "settings": dataset.settings(),
            "episodes": dataset.counts,
            "ended": int(ended),
            "decisions": trajectories.num_decisions,
            "sha256": list(trajectories.info.source),
        },
        "models": models,
        "comparison": json.loads((work / "comparison" / REPORT_FILE).read_text()),
    }
    out = settings.out / f"terminations_{settings.task.replace('-', '_')}.json"
    write_json(out, value)
    console.print(f"kept in {out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
