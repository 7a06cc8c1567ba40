"""How much faster is an update if freed memory stays with the process? Each way in a process of its own.

python benchmarks/freed_memory.py --updates 15
"""

from __future__ import annotations

import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import tyro

import keep
from tdm_agents.actors.behaviour import RandomPolicy
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import EnvRef
from tdm_agents.json_text import parse_json
from tdm_agents.protocols import UpdateSettings
from tdm_agents.training.model_choice import chosen_preset, trainable_class
from tdm_agents.training.process import keep_freed_memory

MODELS = {"transformer": (64, 25), "trajectory_transformer": (24, 12), "mlp": (64, 25)}
"""Windows per update and their steps, by the kind of model; each of its first preset."""

NAMES = ("ru_utime", "ru_stime", "ru_minflt")
"""What is read of the process before and after an update."""


@dataclass(frozen=True)
class Settings:
    """Sizes and files."""

    updates: int = 40
    """Per model, way and round; the median counts."""
    rounds: int = 3
    """Turns, in each of which both ways are measured."""
    work: Path = Path("runs/freed_memory")
    """Folder of the data."""
    out: Path = Path("benchmarks/results/freed_memory.json")
    """File of the result."""
    measure: str = ""
    """The model that this process measures; what the benchmark calls itself with."""
    kept: bool = False
    """Whether this process keeps freed memory."""


def measure(settings: Settings) -> str:
    """User and system seconds, and page faults, of an update, as JSON."""
    torch.set_num_threads(1)
    if settings.kept and not keep_freed_memory():
        raise SystemExit("this C library has no mallopt; expected glibc")
    data = Trajectories.from_minari(settings.work / "data", action_repeat=1)
    kind: Any = trainable_class(settings.measure)
    preset = chosen_preset(settings.measure, kind, None)
    model = kind(data.spec, preset.config)
    discount = getattr(model, "return_discount", None)
    data = data if discount is None else data.with_returns(discount)
    model.fit({"pendulum": data})
    windows, steps = MODELS[settings.measure]
    batch = data.windows(np.arange(windows) % data.num_episodes, np.zeros(windows, np.int64), steps)
    asked = UpdateSettings(steps=10_000, bf16=True)
    optimizers, generator = model.optimizers(asked), torch.Generator("cpu").manual_seed(0)
    rows = []
    for step in range(settings.updates + 5):
        before = resource.getrusage(resource.RUSAGE_SELF)
        model.update(batch, optimizers, step=step, settings=asked, generator=generator)
        after = resource.getrusage(resource.RUSAGE_SELF)
        if step >= 5:  # the first ones make pages in any case
            rows.append([getattr(after, name) - getattr(before, name) for name in NAMES])
    return str([median(column) for column in zip(*rows, strict=True)])


def _middle(rows: list[list[float]]) -> dict[str, float]:
    columns = ("user", "system", "page_faults")
    return dict(zip(columns, map(median, zip(*rows, strict=True)), strict=True))


def _ratios(ways: dict[str, list[list[float]]]) -> list[float]:
    """Processor seconds of an update without over those with kept memory, turn by turn."""
    return [
        sum(one[:2]) / sum(other[:2]) for one, other in zip(ways["given back"], ways["kept"], strict=True)
    ]


def main(settings: Settings) -> None:
    """Measure in turns, keep."""
    if settings.measure:
        print(measure(settings))
        return
    env = EnvRef("Pendulum-v1")
    collect(DatasetSpec(env=env, mix=((RandomPolicy(), 64),), action_repeat=1), settings.work)
    found: dict[str, dict[str, list[list[float]]]] = {}
    for _ in range(settings.rounds):
        for model in MODELS:
            for kept in (False, True):
                command = [sys.executable, __file__, "--measure", model, "--updates", str(settings.updates),
                           "--work", str(settings.work), *(["--kept"] if kept else [])]  # fmt: skip
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                row = parse_json(done.stdout.splitlines()[-1], model)
                found.setdefault(model, {}).setdefault("kept" if kept else "given back", []).append(row)
                print(model, kept, row, flush=True)
    summary = {model: {"times_as_fast": median(_ratios(ways)), **{way: _middle(rows)
               for way, rows in ways.items()}} for model, ways in found.items()}  # fmt: skip
    keep.result(settings.out, settings, summary=summary, rounds=found)


if __name__ == "__main__":
    main(tyro.cli(Settings))
