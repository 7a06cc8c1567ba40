"""Which tokens, targets and decoding are best, with equal data, steps and network?

This trains one transformer for each of {mu-law, quantile} bins x {absolute, change} targets and reports
N-step prediction errors on held-out episodes for each decoding. Then it plays the best decoding of each, and
every decoding of the best.

    python benchmarks/token_study.py --data runs/make_checkpoint/data --work runs/token_study
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from keep import result
from tdm_agents import TDMAgent, make_planner
from tdm_agents.collection.seeds import TUNING_FIRST
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.data.windows import WindowSampler
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.evaluation.progress_bar import ProgressBar
from tdm_agents.evaluation.report import summary
from tdm_agents.storage import write_json
from tdm_agents.training.prediction import prediction_error
from tdm_agents.training.train_config import TrainConfig
from tdm_agents.training.trainer import train
from tdm_agents.world_models.transformer.decoding.options import Read
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.presets import CONFIGS
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

ENV_ID = "dm_control/cartpole-swingup-v0"
DECODINGS: tuple[Read, ...] = ("sample", "mode", "mean")


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
    """Preset of the network, which all variants share."""
    steps: int = 2000
    """Updates per variant."""
    starts: int = 512
    """Held-out starting points of the prediction error."""
    episodes: int = 2
    """Episodes per variant and decoding, on tuning seeds; 0 means predictions only."""
    horizon: int = 25
    """Horizon of the planner (MPPI)."""
    num_samples: int = 32
    """Candidates per iteration."""
    iterations: int = 2
    """Iterations."""
    threads: int = 1
    """PyTorch's threads."""


def trained(settings: Settings, tokens: TokenizerConfig, data: Trajectories) -> tuple[Any, float]:
    """The model with these tokens, and the seconds that training took, over all runs of this script."""
    training, held_out = data.split(0.05, 0)
    config = replace(CONFIGS[settings.preset], tokenizer=tokens)
    torch.manual_seed(0)
    model = TransformerWorldModel(data.spec, config)
    model.fit({"any": training})
    training_config = TrainConfig(
        steps=settings.steps, bf16=True, threads=settings.threads, evaluate_every=10**9
    )
    sampler = WindowSampler(
        training, steps=training_config.window_steps, batch_size=training_config.batch_size, seed=0
    )
    folder = settings.work / f"{tokens.observation}-{tokens.target}"
    record = folder / "seconds.json"
    seconds = json.loads(record.read_text())["seconds"] if record.exists() else 0.0
    complete = (folder / "weights.safetensors").exists()
    result = train(model, sampler, held_out, training_config, folder)
    if not complete:
        seconds += result.seconds
        write_json(record, {"seconds": seconds})
    return model.eval(), seconds


def variant(settings: Settings, tokens: TokenizerConfig, data: Trajectories) -> dict[str, Any]:
    """Train one variant and imagine recorded actions with each decoding."""
    model, seconds = trained(settings, tokens, data)
    torch.set_num_threads(settings.threads)
    _, held_out = data.split(0.05, 0)
    errors = {
        decoding: prediction_error(model.with_decoding(read=decoding), held_out, starts=settings.starts)
        for decoding in DECODINGS
    }
    return {
        "observation": tokens.observation,
        "target": tokens.target,
        "training_seconds": seconds,
        "errors": errors,
        "best_decoding": min(DECODINGS, key=lambda d: errors[d]["median@25"]),
        "plays": {},
    }


def played(settings: Settings, row: dict[str, Any], decoding: Read) -> dict[str, Any]:
    """The summary of the episodes with one decoding, kept in the run's folder to be played only once."""
    folder = settings.work / f"{row['observation']}-{row['target']}"
    planner = make_planner(
        "mppi",
        horizon=settings.horizon,
        num_samples=settings.num_samples,
        iterations=settings.iterations,
        noise_beta=2.0,
        initial_std=0.5,
    )
    part = folder / f"play-{decoding}-{settings.episodes}-{settings.num_samples}x{settings.iterations}.json"
    if not part.exists():
        model = TransformerWorldModel.load(folder).with_decoding(read=decoding)
        seeds = range(TUNING_FIRST, TUNING_FIRST + settings.episodes)
        with ProgressBar(f"{folder.name} {decoding}") as progress:
            agent = TDMAgent(model, planner, reward_function=ENV_ID)
            write_json(part, summary(evaluate(agent, ENV_ID, seeds, on_step=progress)))
    found: dict[str, Any] = json.loads(part.read_text())
    return found


def main(settings: Settings) -> None:
    """Train and predict with everything, then play the best decoding of each, and all of the best variant."""
    console = Console()
    data = Trajectories.from_minari(settings.data, action_repeat=4)
    rows = [
        variant(settings, TokenizerConfig(observation=observation, target=target), data)
        for observation in ("mu_law", "quantile")
        for target in ("absolute", "change")
    ]
    keep(settings, data, rows)
    best = min(rows, key=lambda row: row["errors"][row["best_decoding"]]["median@25"])
    for row in rows if settings.episodes else ():
        for decoding in DECODINGS if row is best else (row["best_decoding"],):
            row["plays"][decoding] = played(settings, row, decoding)
            keep(settings, data, rows)
    console.print(table(rows))


def keep(settings: Settings, data: Trajectories, rows: list[dict[str, Any]]) -> None:
    """Write what is known so far."""
    result(settings.out, settings, data=list(data.info.source), rows=rows)


def table(rows: list[dict[str, Any]]) -> Table:
    """The errors of every decoding, and the returns of those that were played."""
    shown = Table(title="RMS error / standard deviation (median over starts at 25)")
    for column in ("bins", "targets", "decoding", "1 step", "5", "10", "25", "median at 25", "mean return"):
        shown.add_column(column)
    for row in rows:
        for decoding, error in row["errors"].items():
            shown.add_row(
                row["observation"],
                row["target"],
                decoding,
                *(f"{error[f'rms@{h}']:.3f}" for h in (1, 5, 10, 25)),
                f"{error['median@25']:.3f}",
                f"{row['plays'][decoding]['mean']:.0f}" if decoding in row["plays"] else "",
            )
    return shown


if __name__ == "__main__":
    main(tyro.cli(Settings))
