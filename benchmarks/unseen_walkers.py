"""What does the generalist that is shipped reach on walkers on which nobody has any data?

``TDMAgent.load("walkers", env=env)`` plays bodies of all four families that it was not trained on. Random
actions and its planner on the true dynamics play the same seeds; on their scale (0 and 1) the interquartile
mean over all episodes is reported, with a 95 % interval of a stratified bootstrap.

    python benchmarks/unseen_walkers.py
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

import keep
from tdm_agents import evaluate
from tdm_agents.actors.enter import enter
from tdm_agents.actors.entries import parse_entry
from tdm_agents.agent.agent_files import resolve
from tdm_agents.collection.seeds import EVALUATION_FIRST
from tdm_agents.environments import EnvRef
from tdm_agents.evaluation.as_json import evaluation_to_json
from tdm_agents.evaluation.progress_bar import ProgressBar
from tdm_agents.storage import read_json
from tdm_agents.studies.scores import middle, normalised
from tdm_agents.studies.walker_data import walkers


@dataclass(frozen=True)
class Settings:
    """Who plays what."""

    agent: str = "walkers"
    """Name or folder of the generalist; its planner is everybody's."""
    families: tuple[str, ...] = ("chain", "line", "bush", "tree")
    """Families of the walkers."""
    bodies: int = 3
    """Unseen bodies of each family."""
    dof: tuple[int, int] = (5, 10)
    """Fewest and most hinges."""
    episodes: int = 2
    """Episodes of everybody on each body."""
    max_steps: int = 400
    """Environment steps per episode."""
    work: Path = Path("runs/unseen_walkers")
    """What was played already."""
    out: Path = Path("benchmarks/results/unseen_walkers.json")
    """The result."""


def played(text: str, env: EnvRef, settings: Settings) -> dict[str, Any]:
    """Returns and times of an entry."""
    entered = enter(parse_entry(text), env)
    seeds = range(EVALUATION_FIRST, EVALUATION_FIRST + settings.episodes)
    with ProgressBar(f"{env.name}: {text[:20]}") as progress:
        found = evaluate(
            entered.contestant, env, seeds, seed=0, max_steps=settings.max_steps, on_step=progress
        )
    return evaluation_to_json(found)


def main(settings: Settings) -> None:
    """Play, print and keep."""
    torch.set_num_threads(1)
    folder = resolve(settings.agent)
    planner = read_json(folder / "agent.json", schema=2)["planner"]
    chosen = " ".join(f"{k}={str(v).lower()}" for k, v in planner["settings"].items() if v is not None)
    entries = {
        "generalist": f"{settings.agent} unseen=true",
        "simulator": f"simulator action_repeat=2 planner={planner['name']} {chosen}",
        "random": "random",
    }
    weights = folder / "weights.safetensors"
    asked = {
        "weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "episodes": settings.episodes,
        "max_steps": settings.max_steps,
    }
    families: dict[str, Any] = {}
    for family in settings.families:
        rows: dict[str, dict[str, Any]] = {who: {} for who in entries}
        for env in walkers((family,), settings.bodies, "test", 1, settings.dof):
            for who, text in entries.items():
                path = settings.work / f"{env.name.replace('/', '-').replace(' ', '-')}-{who}.json"
                rows[who][env.name] = keep.part(
                    path, {**asked, "entry": text}, partial(played, text, env, settings)
                )
        families[family] = rows
    table = Table("family", "who", "mean return", "normalised", "95 %")
    scores: dict[str, Any] = {}
    every = {**families, "all": {who: merged(families, who) for who in entries}}
    for family, rows in every.items():
        returns = {who: {env: of_episodes(one) for env, one in row.items()} for who, row in rows.items()}
        scale = {"random": returns["random"], "reference": returns["simulator"]}
        for who, row in returns.items():
            found = middle(normalised(row, **scale))
            flat = [value for of_env in row.values() for value in of_env]
            scores.setdefault(family, {})[who] = {
                "mean_return": sum(flat) / len(flat),
                "iqm": found.value,
                "low": found.low,
                "high": found.high,
            }
            shown = scores[family][who]
            table.add_row(
                family,
                who,
                f"{shown['mean_return']:.0f}",
                f"{found.value:.2f}",
                f"{found.low:.2f} to {found.high:.2f}",
            )
    Console().print(table)
    keep.result(settings.out, settings, weights=weights, scores=scores, families=families)


def merged(families: dict[str, Any], who: str) -> dict[str, Any]:
    """What somebody played in all families."""
    return {env: one for rows in families.values() for env, one in rows[who].items()}


def of_episodes(evaluation: dict[str, Any]) -> list[float]:
    """The returns of an evaluation."""
    return [one["return"] for one in evaluation["episodes"]]


if __name__ == "__main__":
    main(tyro.cli(Settings))
