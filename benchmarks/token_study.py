"""Which tokens, which targets, which decoding? Compared at equal data, equal steps, equal network.

Trains one transformer for each of {mu-law, quantile} bins x {absolute, change} targets, reports N-step
prediction errors on held-out episodes for each decoding, then plays the best decoding of each.

    python benchmarks/token_study.py --data runs/make_checkpoint/data --work runs/token_study
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from tdm_agents import TDMAgent, make_planner
from tdm_agents.cli.train import spec_of
from tdm_agents.data.seeds import TUNING_FIRST
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.data.windows import WindowSampler
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.evaluation.progress import ProgressBar
from tdm_agents.evaluation.report import provenance, summary
from tdm_agents.storage import write_json
from tdm_agents.training.config import TrainConfig
from tdm_agents.training.prediction import prediction_error
from tdm_agents.training.trainer import train
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.presets import PRESETS
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

ENV_ID = "dm_control/cartpole-swingup-v0"
DECODINGS = ("sample", "mode", "mean")


@dataclass(frozen=True)
class Settings:
    """Settings of the study."""

    data: Path
    """Minari data set, as ``tdm collect`` writes it."""
    work: Path = Path("runs/token_study")
    """Folder of the training runs; an interrupted study goes on."""
    out: Path = Path("benchmarks/results/token_study.json")
    """Where to write the result."""
    preset: str = "small"
    """Network that all variants share."""
    steps: int = 2000
    """Updates each."""
    starts: int = 512
    """Held-out starting points of the prediction error."""
    episodes: int = 3
    """Episodes each, on tuning seeds; 0 = predictions only."""
    horizon: int = 25
    """Of the planner (MPPI)."""
    num_samples: int = 32
    """Candidates an iteration."""
    iterations: int = 2
    """Iterations."""
    threads: int = 1
    """PyTorch's threads."""


def trained(settings: Settings, tokens: TokenizerConfig, data: Trajectories) -> tuple[Any, float]:
    """The model with these tokens, and the seconds that training took (as far as this run did it)."""
    training, held_out = data.split(0.05, 0)
    config = replace(PRESETS[settings.preset], tokenizer=tokens)
    torch.manual_seed(0)
    model = TransformerWorldModel(spec_of(data), config)
    model.fit(training)
    training_config = TrainConfig(
        steps=settings.steps, bf16=True, threads=settings.threads, evaluate_every=10**9
    )
    sampler = WindowSampler(
        training, steps=training_config.window_steps, batch_size=training_config.batch_size, seed=0
    )
    folder = settings.work / f"{tokens.observation}-{tokens.target}"
    began = time.monotonic()
    train(model, sampler, held_out, training_config, folder)
    return model.eval(), time.monotonic() - began


def main(settings: Settings) -> None:
    """Train, predict, play, keep."""
    console = Console()
    data = Trajectories.from_minari(settings.data, action_repeat=4)
    _, held_out = data.split(0.05, 0)
    rows = []
    for observation in ("mu_law", "quantile"):
        for target in ("absolute", "change"):
            tokens = TokenizerConfig(observation=observation, target=target)
            model, seconds = trained(settings, tokens, data)
            torch.set_num_threads(settings.threads)
            errors = {}
            for decoding in DECODINGS:
                decoded = model.with_decoding(decoding)
                errors[decoding] = prediction_error(decoded, held_out, starts=settings.starts)
            best = min(DECODINGS, key=lambda d: errors[d]["median@25"])
            row: dict[str, Any] = {
                "observation": observation,
                "target": target,
                "training_seconds": seconds,
                "errors": errors,
                "best_decoding": best,
            }
            if settings.episodes:
                planner = make_planner(
                    "mppi",
                    horizon=settings.horizon,
                    num_samples=settings.num_samples,
                    iterations=settings.iterations,
                    noise_beta=2.0,
                    initial_std=0.5,
                )
                agent = TDMAgent(model.with_decoding(best), planner, reward_function=ENV_ID)
                seeds = range(TUNING_FIRST, TUNING_FIRST + settings.episodes)
                with ProgressBar(f"{observation} {target} {best}") as progress:
                    row["play"] = summary(evaluate(agent, ENV_ID, seeds, on_step=progress))
            rows.append(row)
            write_json(
                settings.out,
                {
                    "schema": 1,
                    "settings": {
                        k: str(v) if isinstance(v, Path) else v for k, v in asdict(settings).items()
                    },
                    "data": list(data.info.source),
                    "rows": rows,
                    "provenance": provenance(),
                },
            )
    console.print(table(rows))
    console.print(f"kept in {settings.out}")


def table(rows: list[dict[str, Any]]) -> Table:
    """Errors of every decoding, and the return of the best one."""
    shown = Table(title="RMS error / standard deviation (median over starts at 25)")
    for column in ("bins", "targets", "decoding", "1 step", "5", "10", "25", "median at 25", "mean return"):
        shown.add_column(column)
    for row in rows:
        for decoding, error in row["errors"].items():
            played = decoding == row["best_decoding"] and "play" in row
            shown.add_row(
                row["observation"],
                row["target"],
                decoding,
                *(f"{error[f'rms@{h}']:.3f}" for h in (1, 5, 10, 25)),
                f"{error['median@25']:.3f}",
                f"{row['play']['mean']:.0f}" if played else "",
            )
    return shown


if __name__ == "__main__":
    main(tyro.cli(Settings))
