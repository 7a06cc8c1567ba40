"""Token-level beam search on cartpole-swingup with and without a value that was learned offline.

The search is that of the Trajectory Transformer, over the shipped transformer's tokens. The value and the
policy are those of implicit Q-learning, from episodes of random actions and of a disturbed planner on the
true dynamics: fewer of the kind that the transformer was trained on. All contestants play the same evaluation
seeds, and plan for the task's own reward function. An interrupted run goes on with the same command, and the
IQL model is written into the package, and an agent that is made of the shipped TDM and its value.

    python benchmarks/offline_cartpole.py
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console

import keep
from tdm_agents.actors.behaviour import PlannerPolicy, RandomPolicy
from tdm_agents.actors.enter import enter
from tdm_agents.actors.entries import parse_entry
from tdm_agents.agent import agent_files
from tdm_agents.cli.train import run as run_training
from tdm_agents.cli.train_options import Train
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.seeds import EVALUATION_FIRST
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import EnvRef
from tdm_agents.evaluation.as_json import plain
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.evaluation.progress_bar import ProgressBar
from tdm_agents.evaluation.report import summary
from tdm_agents.registry import make_planner
from tdm_agents.training.train_config import TrainConfig
from tdm_agents.wrappers.saved_parts import write_parts

ENV = EnvRef("dm_control/cartpole-swingup-v0")
ACTION_REPEAT = 4
COLLECTOR = PlannerPolicy("mppi", {"horizon": 25, "num_samples": 32, "iterations": 1})
IQL_SETTINGS = {
    "expectile": "0.9",
    "beta": "3.0",
    "discount": "0.99",
    "iql_hidden": "128",
    "hidden": "64",
    "layers": "2",
}
"""Far towards the best actions, because most episodes are random; small networks for a small task."""
SEARCH = "planner=beam_search level=token horizon=4 beam_width={width} num_expand=4"
WIDTH, OTHER_WIDTHS = 8, (1, 2, 4, 16, 32)
VALUE = "discount=0.99 value={iql}"
NEAR = {"horizon": 5, "num_samples": 16, "iterations": 1, "discount": 0.99}
NEAR |= {"noise_beta": 2.0, "initial_std": 0.5}
"""The planner of the agent that is shipped."""
CONTESTANTS = {
    "beam search over tokens": f"cartpole-swingup {SEARCH.format(width=WIDTH)}",
    "beam search over tokens, IQL's value": f"cartpole-swingup {SEARCH.format(width=WIDTH)} {VALUE}",
    "IQL's policy": "{iql} planner=policy",
}
CONTESTANTS |= {
    f"beam search over tokens, IQL's value, width {width}": (
        f"cartpole-swingup {SEARCH.format(width=width)} {VALUE}"
    )
    for width in OTHER_WIDTHS
}
"""Entries by their label in the result."""


@dataclass(frozen=True)
class Settings:
    """Sizes and files."""

    random_episodes: int = 200
    """Episodes of random actions that are correlated in time."""
    planner_episodes: int = 80
    """Episodes of the disturbed planner."""
    updates: int = 10_000
    """Of implicit Q-learning."""
    episodes: int = 3
    """Per contestant."""
    only: tuple[str, ...] = ()
    """Labels of the contestants to play; all if empty."""
    work: Path = Path("runs/offline_cartpole")
    """Folder of data, training run and played parts, from which an interrupted run goes on."""
    checkpoint: Path = Path("tdm_agents/checkpoints/cartpole-swingup-value")
    """The folder of the IQL model that is shipped."""
    fast: Path = Path("tdm_agents/checkpoints/cartpole-swingup-fast")
    """The folder of the shipped agent that plans a few decisions ahead with it."""
    out: Path = Path("benchmarks/results/offline_cartpole.json")
    """File of the result, written once all have played."""


def trained(settings: Settings, console: Console) -> Path:
    """The folder of the IQL model, made from nothing where it is not there."""
    folder = settings.work / "iql"
    data = collect(
        DatasetSpec(
            env=ENV,
            mix=((RandomPolicy(), settings.random_episodes), (COLLECTOR, settings.planner_episodes)),
            action_repeat=ACTION_REPEAT,
        ),
        settings.work / "data",
    )
    run = Train(
        data=(data,),
        out=folder,
        model="iql",
        action_repeat=ACTION_REPEAT,
        model_settings=IQL_SETTINGS,
        training=TrainConfig(
            steps=settings.updates, batch_size=24, window_steps=12, bf16=False, evaluate_every=5_000
        ),
    )
    run_training(run, console=console)
    return folder


def played(label: str, line: str, episodes: int) -> dict[str, Any]:
    """The summary of a contestant's episodes, and their returns."""
    entered = enter(parse_entry(line), ENV)
    with ProgressBar(label) as progress:
        found = evaluate(
            entered.contestant,
            ENV,
            range(EVALUATION_FIRST, EVALUATION_FIRST + episodes),
            seed=0,
            on_step=progress,
        )
    return {
        "summary": plain(summary(found)),
        "returns": found.scores,
        "seeds": [episode.seed for episode in found.episodes],
        "settings": plain(entered.settings),
    }


def main(settings: Settings) -> None:
    """Collect, train, play, keep."""
    torch.set_num_threads(1)
    console = Console(stderr=True)
    folder = trained(settings, console)
    found = {}
    for label, text in CONTESTANTS.items():
        if settings.only and label not in settings.only:
            continue
        line = text.format(iql=folder)
        name = label.replace(" ", "_").replace("'", "").replace(",", "")
        asked = {"line": line, "episodes": settings.episodes, "updates": settings.updates}
        part = settings.work / "played" / f"{name}.json"
        found[label] = keep.part(part, asked, partial(played, label, line, settings.episodes))
        numbers = found[label]["summary"]
        console.print(
            f"{label}: {numbers['mean']:.0f} ({numbers['mean_low']:.0f} to {numbers['mean_high']:.0f})"
        )
    if settings.only:
        return
    agent_files.write(settings.checkpoint, agent_files.load_model(folder), agent_files.read_settings(folder))
    parts = {"model": "../cartpole-swingup", "value": f"../{settings.checkpoint.name}"}
    settings.fast.mkdir(parents=True, exist_ok=True)
    write_parts(settings.fast, "with_value", parts)
    near = agent_files.settings_of(make_planner("mppi", **NEAR), str(ENV), str(ENV))
    agent_files.write_settings(settings.fast, near)
    data = Trajectories.from_minari(settings.work / "data" / "data", action_repeat=ACTION_REPEAT)
    keep.result(
        settings.out,
        settings,
        weights=settings.checkpoint / "weights.safetensors",
        env_id=str(ENV),
        collector=asdict(COLLECTOR),
        iql=IQL_SETTINGS,
        decisions=data.num_decisions,
        contestants=found,
    )


if __name__ == "__main__":
    main(tyro.cli(Settings))
