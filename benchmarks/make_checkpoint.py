"""Make a shipped checkpoint from nothing: collect, train, and write it into the package.

Every setting is frozen here, the same for both. If interrupted, the same command goes on. Evaluation is timed
separately (``benchmarks/cartpole_returns.py``, ``benchmarks/students.py``).

    python benchmarks/make_checkpoint.py
    python benchmarks/make_checkpoint.py --model step_transformer  # on the data that are there
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from tdm_agents.actors.behaviour import PlannerPolicy, RandomPolicy
from tdm_agents.agent.agent_files import load_model, settings_of, write
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
from tdm_agents.world_models.transformer.token_model import TokenModel

ENV_ID = "dm_control/cartpole-swingup-v0"
ACTION_REPEAT = 4
RANDOM_EPISODES = 500
PLANNER_EPISODES = 300
COLLECTOR = PlannerPolicy("mppi", {"horizon": 25, "num_samples": 32, "iterations": 1})
TRAINING = TrainConfig(
    steps=5000, batch_size=24, window_steps=12, learning_rate=3e-3, bf16=True, evaluate_every=1000
)
PLANNER = make_planner("mppi", horizon=25, num_samples=32, iterations=2, noise_beta=2.0, initial_std=0.5)
AGENT = settings_of(PLANNER, reward_function=ENV_ID, env_id=ENV_ID)
SHIPPED = {
    "transformer": ("cartpole-swingup", "make_checkpoint.json", "train"),
    "step_transformer": ("cartpole-swingup-step-transformer", "make_step_checkpoint.json", "train_steps"),
}
"""Name of the checkpoint, file of the result, and folder of the run, by kind of model."""


@dataclass(frozen=True)
class Settings:
    """Files and processes."""

    work: Path = Path("runs/make_checkpoint")
    """Folder of data, training run and stage times; an interrupted run goes on from there."""
    model: Literal["transformer", "step_transformer"] = "transformer"
    """Kind of model."""
    checkpoints: Path = Path("tdm_agents/checkpoints")
    """Folder of what is shipped: `cartpole-swingup`, or `cartpole-swingup-step-transformer`."""
    results: Path = Path("benchmarks/results")
    """Folder of the file of times, sizes and hashes."""
    workers: int = 2
    """Processes of the collection."""


def timed(path: Path, stage: str, seconds: float) -> dict[str, float]:
    """Add the seconds of a stage to the file of stage times, which outlasts interruptions."""
    times = json.loads(path.read_text()) if path.exists() else {}
    times[stage] = times.get(stage, 0.0) + seconds
    write_json(path, times)
    return times


def main(settings: Settings) -> None:
    """Collect, train, write."""
    console = Console(stderr=True)
    name, file, folder = SHIPPED[settings.model]
    checkpoint, out = settings.checkpoints / name, settings.results / file
    times_file = settings.work / f"{folder}.json"
    data = settings.work / "data"
    began = time.monotonic()
    try:
        collect(
            DatasetSpec(
                env=EnvRef(ENV_ID),
                mix=((RandomPolicy(), RANDOM_EPISODES), (COLLECTOR, PLANNER_EPISODES)),
                action_repeat=ACTION_REPEAT,
            ),
            data,
            workers=settings.workers,
            watch=lambda done: console.print(f"{done.policy} {done.episode_return:.0f}", end="  "),
        )
    finally:
        timed(times_file, "collect", time.monotonic() - began)
    run = Train(
        data=(data,),
        out=settings.work / folder,
        model=settings.model,
        preset="small",
        action_repeat=ACTION_REPEAT,
        suit_sizes=False,
        training=TRAINING,
    )
    began = time.monotonic()
    try:
        result = run_training(run, console=console)
    finally:
        times = timed(times_file, "train", time.monotonic() - began)
    model = load_model(run.out)
    assert isinstance(model, TokenModel)
    write(checkpoint, model, AGENT)
    weights = checkpoint / "weights.safetensors"
    trajectories = Trajectories.from_minari(data, action_repeat=ACTION_REPEAT)
    value: dict[str, Any] = {
        "schema": 1,
        "settings": {
            "env_id": ENV_ID,
            "action_repeat": ACTION_REPEAT,
            "random_episodes": RANDOM_EPISODES,
            "planner_episodes": PLANNER_EPISODES,
            "collector": asdict(COLLECTOR),
            "training": asdict(TRAINING),
            "kind": settings.model,
            "model": asdict(model.config),
            "agent": asdict(AGENT),
            "workers": settings.workers,
        },
        "seconds": times,
        "parameters": sum(p.numel() for p in model.parameters()),
        "bytes": sum(f.stat().st_size for f in checkpoint.iterdir()),
        "decisions": trajectories.num_decisions,
        "data_sha256": list(trajectories.info.source),
        "metrics": dict(result.metrics),
        "provenance": provenance(weights),
    }
    write_json(out, value)
    console.print(f"{checkpoint}: {value['bytes']:,} bytes; {times}; kept in {out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
