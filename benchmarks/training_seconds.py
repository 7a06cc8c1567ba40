"""How long did a run of ``tdm train`` take? The answer is in the wall times of its TensorBoard events.

It is the time between the first and the last logged update of every process of the run, so pauses between an
interruption and its resumption do not count.

    python benchmarks/training_seconds.py --run runs/mlp --out benchmarks/results/mlp_training.json
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tyro
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tdm_agents.evaluation.report import provenance
from tdm_agents.storage import write_json


@dataclass(frozen=True)
class Settings:
    """The run and the file."""

    run: Path
    """Folder of the run."""
    out: Path
    """Where to write the result."""


def main(settings: Settings) -> None:
    """Add up, print and keep."""
    seconds, last = 0.0, 0
    for file in sorted(settings.run.glob("events*")):
        events = EventAccumulator(str(file)).Reload()
        if "train/loss" in events.Tags()["scalars"]:
            points = events.Scalars("train/loss")
            seconds += points[-1].wall_time - points[0].wall_time
            last = max(last, points[-1].step)
    value = {
        "schema": 1,
        "run": str(settings.run),
        "description": json.loads((settings.run / "run.json").read_text()),
        "seconds": seconds,
        "steps": last,
        "provenance": provenance(settings.run / "weights.safetensors"),
    }
    write_json(settings.out, value)
    print(f"{last} updates in {seconds:.0f} s; kept in {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
