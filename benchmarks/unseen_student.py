"""What does a student of a generalist reach on a body on which nobody has any data?

The generalist plays a walker that it was not trained on, and `tdm distill --in-imagination` makes a student
of it: the environment only says how episodes begin. Teacher, the student's policy, MPPI with the student's
dynamics, random actions, and the teacher's planner on the simulator play the same seeds.

    tdm study zero-shot --size small --out runs/studies  # or any other generalist of chain walkers
    python benchmarks/unseen_student.py --generalist runs/studies/products/MODEL/files
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
from tdm_agents.cli.main import main as tdm
from tdm_agents.collection.seeds import EVALUATION_FIRST
from tdm_agents.environments import EnvRef
from tdm_agents.evaluation.as_json import evaluation_to_json
from tdm_agents.evaluation.progress_bar import ProgressBar
from tdm_agents.evaluation.report import summary

MPPI = "planner=mppi horizon=8 num_samples=32 iterations=1"


@dataclass(frozen=True)
class Settings:
    """The generalist, the bodies, and the size of everything."""

    generalist: Path
    """Folder of a generalist that was trained on other chain walkers."""
    bodies: tuple[tuple[int, int], ...] = ((9, 329436141), (8, 3713751757))
    """Hinges and body of the walkers, which belong to the test split (`tdm_envs.bodies.split`)."""
    episodes: int = 4
    """Episodes of everybody, side by side."""
    max_steps: int = 400
    """Environment steps per episode."""
    imagined_steps: int = 40
    """Environment steps per imagined episode."""
    rounds: int = 6
    """Rounds of distillation."""
    envs: int = 8
    """Imagined episodes per round."""
    updates: int = 1000
    """Updates of the student per round."""
    work: Path = Path("runs/unseen_student")
    """Students, and what was played already."""
    out: Path = Path("benchmarks/results/unseen_student.json")
    """The result."""


def distilled(settings: Settings, env: EnvRef, folder: Path) -> None:
    """Train the student, without real data; an interrupted run goes on."""
    command = ["distill", "--teacher", f"{settings.generalist} unseen=true {MPPI}", "--env-id", str(env)]
    command += ["--in-imagination", "--max-steps", str(settings.imagined_steps), "--out", str(folder)]
    command += ["--rounds", str(settings.rounds), "--envs", str(settings.envs)]
    command += ["--updates", str(settings.updates), "--evaluate-episodes", "1", "--report-episodes", "0"]
    if (code := tdm(command)) != 0:
        raise SystemExit(code)


def played(text: str, env: EnvRef, settings: Settings, name: str) -> dict[str, Any]:
    """Returns of an entry, and their summary."""
    entered = enter(parse_entry(text), env)
    seeds = range(EVALUATION_FIRST, EVALUATION_FIRST + settings.episodes)
    with ProgressBar(name) as progress:
        found = evaluate(
            entered.contestant, env, seeds, seed=0, max_steps=settings.max_steps, on_step=progress
        )
    return {"summary": summary(found), "evaluation": evaluation_to_json(found)}


def on_body(settings: Settings, dof: int, body: int) -> dict[str, Any]:
    """Train a student for a body, and let everybody play it."""
    env = EnvRef("tdm/WalkerChain-v0", {"dof": dof, "body": body})
    folder = settings.work / f"chain-{dof}-{body}"
    distilled(settings, env, folder)
    entries = {
        "generalist": f"{settings.generalist} unseen=true {MPPI}",
        "student's policy": str(folder),
        "student's dynamics": f"{folder} {MPPI}",
        "simulator": f"simulator {MPPI} action_repeat=2",
        "random": "random",
    }
    weights = hashlib.sha256((settings.generalist / "weights.safetensors").read_bytes()).hexdigest()
    made = {"generalist": weights, "episodes": settings.episodes, "max_steps": settings.max_steps}
    return {
        name: keep.part(
            settings.work / f"{dof}-{body}-{name}.json",
            {**made, "entry": text, "student": [settings.rounds, settings.envs, settings.updates]},
            partial(played, text, env, settings, name),
        )
        for name, text in entries.items()
    }


def main(settings: Settings) -> None:
    """Distil, play, print and keep."""
    torch.set_num_threads(1)
    bodies = {f"chain, dof={dof}, body={body}": on_body(settings, dof, body) for dof, body in settings.bodies}
    table = Table("body", "who", "mean return", "lowest", "highest")
    for name, rows in bodies.items():
        for who, found in rows.items():
            returns = [one["return"] for one in found["evaluation"]["episodes"]]
            mean = found["summary"]["mean"]
            table.add_row(name, who, f"{mean:.0f}", f"{min(returns):.0f}", f"{max(returns):.0f}")
    Console().print(table)
    keep.result(settings.out, settings, weights=settings.generalist / "weights.safetensors", bodies=bodies)


if __name__ == "__main__":
    main(tyro.cli(Settings))
