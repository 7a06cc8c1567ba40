r"""What do students of the shipped agent reach on cartpole-swingup, and how long do their decisions take?

Ten episodes on evaluation seeds, one thread. Milliseconds are of one environment; everybody takes turns.

    tdm distill --teacher cartpole-swingup --out runs/distill/cartpole --report-episodes 0 --updates 1500
    tdm distill --teacher "cartpole-swingup num_samples=16 iterations=1 horizon=5 discount=0.99 \
        value=cartpole-swingup-value" --out runs/distill/cartpole-value --report-episodes 0 --updates 1500
    tdm train --data runs/make_checkpoint/data --model mlp --out runs/mlp --steps 45000 \
        --batch-size 64 --learning-rate 1e-3
    python benchmarks/online_returns.py --learner sac
    python benchmarks/students.py
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

import keep
from decision_times import milliseconds
from tdm_agents import evaluate
from tdm_agents.actors.enter import enter
from tdm_agents.actors.entries import parse_entry
from tdm_agents.collection.seeds import EVALUATION_FIRST
from tdm_agents.environments import EnvRef
from tdm_agents.evaluation.as_json import evaluation_to_json, plain
from tdm_agents.evaluation.progress_bar import ProgressBar
from tdm_agents.evaluation.report import summary

ENV_ID = "dm_control/cartpole-swingup-v0"
KNOWN = f"reward_function={ENV_ID}"
MPPI = "planner=mppi noise_beta=2.0 initial_std=0.5"
NEAR = "num_samples=16 iterations=1 horizon=5 discount=0.99 value=cartpole-swingup-value"
TEACHER, STEPS = "the TDM (teacher)", "cartpole-swingup-step-transformer"


@dataclass(frozen=True)
class Settings:
    """Files and episodes."""

    student: Path = Path("runs/distill/cartpole")
    """Folder of `tdm distill`."""
    of_value: Path = Path("runs/distill/cartpole-value")
    """The same, of the TDM that plans with a value."""
    mlp: Path = Path("runs/mlp")
    """The MLP that was trained on the TDM's data."""
    sac: Path = Path("runs/online/cartpole-swingup-sac-0.zip")
    """SAC's policy, which holds each action for two environment steps."""
    episodes: int = 10
    """Episodes of each, side by side."""
    rounds: int = 5
    """Turns of each while milliseconds are measured, after one that does not count."""
    parts: Path = Path("runs/students")
    """Folder of what was played already."""
    out: Path = Path("benchmarks/results/students.json")
    """The result."""


def entries(settings: Settings) -> dict[str, str]:
    """Who plays, as entries of `tdm compare`."""
    student = str(settings.student)
    far = f"{MPPI} horizon=25 {KNOWN}"
    return {
        TEACHER: "cartpole-swingup",
        "the TDM, 1 x 16, 5 ahead, with a value": f"cartpole-swingup {NEAR}",
        "step transformer, 2 x 32": STEPS,
        "step transformer, 1 x 16, 5 ahead, with a value": f"{STEPS} {NEAR}",
        "student's dynamics, 2 x 32": f"{student} {far} num_samples=32 iterations=2",
        "student's dynamics, 1 x 16, 5 ahead, with a value": f"{student} {MPPI} {NEAR} {KNOWN}",
        "student's policy": student,
        "policy of a student of the TDM with a value": str(settings.of_value),
        "student's policy among 1 x 16": f"{student} {far} num_samples=16 iterations=1 num_policy=4",
        "the TDM, 1 x 8, student's policy among them": (
            f"cartpole-swingup num_samples=8 iterations=1 num_policy=2 proposal={student}"
        ),
        "MLP, same data, 2 x 32": f"{settings.mlp} {far} num_samples=32 iterations=2",
        "SAC, 100,000 steps": f"{settings.sac} action_repeat=2",
    }


def episodes(contestant: Any, settings: Settings, name: str) -> dict[str, Any]:
    """Returns, and their summary."""
    seeds = range(EVALUATION_FIRST, EVALUATION_FIRST + settings.episodes)
    with ProgressBar(name) as progress:
        found = evaluate(contestant, ENV_ID, seeds, seed=0, on_step=progress)
    return {"summary": summary(found), "evaluation": evaluation_to_json(found)}


def main(settings: Settings) -> None:
    """Play, measure, print and keep."""
    torch.set_num_threads(1)
    entered = {name: enter(parse_entry(text), EnvRef(ENV_ID)) for name, text in entries(settings).items()}
    played: dict[str, Any] = {}
    for name, one in entered.items():
        files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in one.files}
        made = {"settings": plain(dict(one.settings)), "episodes": settings.episodes, "files": files}
        played[name] = keep.part(
            settings.parts / f"{name}.json", made, partial(episodes, one.contestant, settings, name)
        )
    load = os.getloadavg()[0]
    times = milliseconds({name: one.contestant for name, one in entered.items()}, ENV_ID, settings.rounds)
    table = Table("", "IQM of returns", "95 %", "ms per decision")
    for name, part in played.items():
        s = part["summary"]
        interval = f"{s['iqm_low']:.0f} to {s['iqm_high']:.0f}"
        table.add_row(name, f"{s['iqm']:.0f}", interval, f"{times[name]:.1f}")
    Console().print(table)
    rows = {
        name: {"entry": entries(settings)[name], "milliseconds_per_decision": times[name], **part}
        for name, part in played.items()
    }
    keep.result(
        settings.out, settings, weights=settings.student / "weights.safetensors", load_before=load, rows=rows
    )


if __name__ == "__main__":
    main(tyro.cli(Settings))
