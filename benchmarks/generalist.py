"""Is one transformer for three environments as good as three, with the same windows of each?

The data are random episodes of environments of different sizes; preset, windows and seeds are the same. The
generalist makes three times the updates of a specialist, on batches of the same size, so that each
environment is seen equally often. The held-out loss per token and the median one-step error in standard
deviations are kept, after one update, of the specialists and of the generalist. Run again, it only evaluates.

    python benchmarks/generalist.py
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from keep import result
from tdm_agents.actors.behaviour import RandomPolicy
from tdm_agents.cli.train import run as run_training
from tdm_agents.cli.train_options import Train
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.environments import EnvRef
from tdm_agents.storage import read_json
from tdm_agents.training.train_config import TrainConfig

ENVIRONMENTS = {
    "pendulum": "Pendulum-v1",
    "cartpole": "dm_control/cartpole-swingup-v0",
    "hopper": "Hopper-v5",
}
ACTION_REPEAT = 2


@dataclass(frozen=True)
class Settings:
    """Amount of data and training, and files."""

    out: Path = Path("benchmarks/results/generalist.json")
    """Where to write the result."""
    runs: Path = Path("runs/generalist")
    """Folder of data and models."""
    episodes: int = 200
    """Episodes per environment."""
    max_steps: int = 200
    """Most environment steps per episode."""
    steps: int = 400
    """Updates of a specialist; the generalist makes three times as many."""
    batch_size: int = 12
    """Windows per update."""
    preset: str = "small-paper-tokens"
    """Preset of the transformer: its size and tokens."""


def train(settings: Settings, name: str, **changes: Any) -> dict[str, float]:
    """The held-out metrics of a run, which is made unless it was finished before."""
    training = TrainConfig(
        steps=settings.steps,
        batch_size=settings.batch_size,
        window_steps=8,
        evaluate_every=10**9,
        horizons=(1,),
        context_steps=4,
        starts=128,
    )
    steps = changes.pop("steps", settings.steps)
    run = Train(
        data=(),
        out=settings.runs / name,
        preset=settings.preset,
        action_repeat=ACTION_REPEAT,
        held_out_fraction=0.2,
        suit_sizes=False,
        training=replace(training, steps=steps),
    )
    return dict(run_training(replace(run, **changes)).metrics)


def row(metrics: dict[str, float], env_id: str = "") -> dict[str, float]:
    """The figures of one environment."""
    suffix = f"/{env_id}" if env_id else ""
    keys = ("held_out/loss", "held_out/nll_observation", "held_out/nll_reward", "prediction/median@1")
    return {key: metrics[key + suffix] for key in keys}


def main(settings: Settings) -> None:
    """Collect, train, print and keep."""
    datasets = [
        DatasetSpec(
            env=EnvRef(env_id),
            mix=((RandomPolicy(), settings.episodes),),
            name=name,
            action_repeat=ACTION_REPEAT,
            max_steps=settings.max_steps,
        )
        for name, env_id in ENVIRONMENTS.items()
    ]
    data = collect(datasets, settings.runs / "data")
    weights = dict.fromkeys(ENVIRONMENTS.values(), 1.0)
    everything = {"data": (data,), "weights": weights}
    untrained = train(settings, "untrained", steps=1, **everything)
    together = train(settings, "generalist", steps=3 * settings.steps, **everything)
    rows = {}
    for name, env_id in ENVIRONMENTS.items():
        alone = train(settings, name, data=(data / name,))
        rows[env_id] = {
            "after one update": row(untrained, env_id),
            "specialist": row(alone),
            "generalist": row(together, env_id),
        }
    sources = {
        name: read_json(settings.runs / name / "run.json", schema=1)["data"]
        for name in ("generalist", *ENVIRONMENTS)
    }
    weights_file = settings.runs / "generalist" / "weights.safetensors"
    result(settings.out, settings, weights=weights_file, data_sha256=sources, environments=rows)
    table = Table("environment", "model", "loss", "nll of observations", "nll of rewards", "median error")
    for env_id, models in rows.items():
        for model, figures in models.items():
            table.add_row(env_id, model, *(f"{value:.2f}" for value in figures.values()))
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Settings))
