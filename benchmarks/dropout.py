"""Does dropout help a TDM that learns from few episodes?

The small preset learns from 104 episodes of the data of the shipped checkpoint (cartpole-swingup; they are
made by ``make_checkpoint.py``), with and without dropout, and is judged by the other 696. An interrupted run
goes on with the same command.

    python benchmarks/dropout.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

import keep
from tdm_agents.cli.train import run as run_training
from tdm_agents.cli.train_options import Train
from tdm_agents.training.train_config import TrainConfig


@dataclass(frozen=True)
class Settings:
    """Data, rates and files."""

    data: Path = Path("runs/make_checkpoint/data/data")
    """The data set."""
    rates: tuple[float, ...] = (0.0, 0.1)
    """Rates of dropout."""
    held_out: float = 0.87
    """Share of the episodes that are not learned from."""
    updates: int = 3_000
    """Updates of each."""
    work: Path = Path("runs/dropout")
    """Folder of the runs."""
    out: Path = Path("benchmarks/results/dropout.json")
    """Where to keep the result."""


def main(settings: Settings) -> None:
    """Train, print and keep."""
    rows = {}
    for rate in settings.rates:
        result = run_training(
            Train(
                data=(settings.data,),
                out=settings.work / str(rate),
                model="transformer",
                preset="small",
                action_repeat=4,
                model_settings={"dropout": str(rate)},
                held_out_fraction=settings.held_out,
                training=TrainConfig(
                    steps=settings.updates, bf16=True, evaluate_batches=8, horizons=(1, 5), starts=64
                ),
            )
        )
        rows[str(rate)] = dict(result.metrics)
        print(f"dropout {rate}: held-out loss {result.metrics['held_out/loss']:.2f}")
    keep.result(settings.out, settings, rows=rows)


if __name__ == "__main__":
    main(tyro.cli(Settings))
