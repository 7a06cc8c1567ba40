"""What is it worth to know where episodes end? Hopper-v5, planned for with ``alive`` and without it.

Collects, trains a small TDM and an MLP on the same data, and plays each twice, with the same weights and the
same planner: as it is, and as if no episode ended (``alive=false``). Beside them the true simulator, which
ends as the environment does, and random actions. Interrupted, the same command goes on. Every setting is
frozen here; the planner's were chosen on the true simulator, on tuning seeds.

    python benchmarks/terminations.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console

from tdm_agents.checkpoint import load_model, settings_of, write_settings
from tdm_agents.cli.compare import REPORT_FILE, Compare
from tdm_agents.cli.compare import run as run_comparison
from tdm_agents.cli.train import Train
from tdm_agents.cli.train import run as run_training
from tdm_agents.data.collection import collect
from tdm_agents.data.policies import PlannerPolicy, RandomPolicy
from tdm_agents.data.portion import Portion
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.evaluation.report import provenance
from tdm_agents.registry import make_planner
from tdm_agents.storage import write_json
from tdm_agents.training.config import TrainConfig

ENV_ID = "Hopper-v5"
ACTION_REPEAT = 4
COLLECTION = Portion(
    env_id=ENV_ID,
    mix=(
        (RandomPolicy(), 1000),
        (PlannerPolicy("mppi", {"horizon": 20, "num_samples": 16, "iterations": 1}), 160),
    ),
    action_repeat=ACTION_REPEAT,
    max_steps=400,
)
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
    """Where things go."""

    work: Path = Path("runs/terminations")
    """Data, training runs and finished episodes; an interrupted run goes on from there."""
    out: Path = Path("benchmarks/results/terminations.json")
    """Returns, what the models know about ends, data, settings and hashes."""
    episodes: int = 10
    """Episodes each."""
    workers: int = 1
    """Processes of the collection."""
    threads: int = 1
    """Threads of PyTorch and of the simulator."""


def trained(kind: str, data: Path, folder: Path, console: Console) -> dict[str, Any]:
    """Train a model, or read what its training found."""
    found = folder / FOUND_FILE
    if not found.exists():
        training = TRAINING[kind]
        run = Train(data=(data,), out=folder, model=kind, action_repeat=ACTION_REPEAT, training=training)
        result = run_training(run, console=console)
        write_settings(folder, settings_of(PLANNER, None, ENV_ID))
        write_json(found, {"training": asdict(training), "metrics": dict(result.metrics)})
    value: dict[str, Any] = json.loads(found.read_text())
    model: Any = load_model(folder)
    return value | {
        "model": asdict(model.config),
        "parameters": sum(p.numel() for p in model.parameters()),
        "provenance": provenance(folder / "weights.safetensors"),
    }


def entries(folders: Mapping[str, Path]) -> tuple[str, ...]:
    """Who plays; all with the same planner."""
    found = [f"simulator like={folders['mlp']} label='true simulator'"]
    for kind, folder in folders.items():
        found.append(f"{folder} label={LABELS[kind]}")
        found.append(f"{folder} alive=false label='{LABELS[kind]} without alive'")
    return (*found, "random")


def main(settings: Settings) -> None:
    """Collect, train, compare."""
    torch.set_num_threads(settings.threads)
    console = Console(stderr=True)
    data = collect(
        COLLECTION,
        settings.work / "data",
        workers=settings.workers,
        watch=lambda done: console.print(f"{done.policy} {done.episode_return:.0f}", end="  "),
    )
    folders = {kind: settings.work / kind for kind in TRAINING}
    models = {kind: trained(kind, data, folder, console) for kind, folder in folders.items()}
    run_comparison(
        Compare(
            entry=entries(folders),
            env_id=(ENV_ID,),
            episodes=settings.episodes,
            batch=settings.episodes,
            threads=settings.threads,
            out=settings.work / "comparison",
        )
    )
    trajectories = Trajectories.from_minari(data, action_repeat=ACTION_REPEAT)
    ended = sum(not trajectories.episode(e).alive[-1] for e in range(trajectories.num_episodes))
    value = {
        "schema": 1,
        "data": {
            "settings": COLLECTION.settings(),
            "episodes": COLLECTION.counts,
            "ended": int(ended),
            "decisions": trajectories.num_decisions,
            "sha256": list(trajectories.info.source),
        },
        "models": models,
        "comparison": json.loads((settings.work / "comparison" / REPORT_FILE).read_text()),
    }
    write_json(settings.out, value)
    console.print(f"kept in {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
