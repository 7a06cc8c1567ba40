"""Is a decision faster if one imagined step in buffers of fixed shape is repeated, compiled or not?

On a GPU that step is a CUDA graph; on a CPU it is the same work, so that what is seen there is what fixed
buffers cost and what compiled blocks gain. All attend by PyTorch's products. The same weights, history,
actions and draws, in turn in one run; medians. Compiling for a CPU needs a C++ compiler.

    python benchmarks/captured_steps.py
"""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro

from tdm_agents.benchmark.allocation import keep_freed_memory
from tdm_agents.benchmark.clock import time_decision
from tdm_agents.benchmark.contestants import CAPTURED, Decide, decide_as
from tdm_agents.benchmark.models import random_model
from tdm_agents.benchmark.scenarios import chosen
from tdm_agents.evaluation.as_json import plain
from tdm_agents.evaluation.report import provenance
from tdm_agents.storage import write_json


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    out: Path = Path("benchmarks/results/captured_steps.json")
    """Where to write the result."""
    scenarios: tuple[str, ...] = ("table/history-10", "table/history-118", "cartpole/small")
    """Decisions, of ``tdm benchmark speed --list``."""
    repeats: int = 5
    """Decisions of each, in turn."""
    device: str = "cpu"
    """Where."""
    threads: int = 1
    """PyTorch's threads."""


def main(settings: Settings) -> None:
    """Measure, print, and keep."""
    torch.set_num_threads(settings.threads)
    keep_freed_memory()
    device = torch.device(settings.device)

    def seconds(decide: Decide) -> float:
        return time_decision(decide(), device, at_most=math.inf).seconds

    rows = {}
    for scenario in chosen(settings.scenarios):
        model = random_model(scenario.shape, device=device).with_decoding(attention="products")
        ways = {
            name: decide_as(name, model, scenario.shape, max_rows=scenario.shape.rows)
            for name in ("sequential", *CAPTURED)
        }
        first = {name: seconds(decide) for name, decide in ways.items()}
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(settings.repeats):
            for name, decide in ways.items():
                times[name].append(seconds(decide))
        medians = {name: statistics.median(taken) for name, taken in times.items()}
        rows[scenario.name] = {
            "seconds": times,
            "first_seconds": first,
            "times_as_fast": {name: medians["sequential"] / medians[name] for name in CAPTURED},
        }
        shown = ", ".join(f"{name} {median:.2f} s" for name, median in medians.items())
        print(f"{scenario.name}: {shown}", flush=True)
    value = {
        "schema": 1,
        "settings": plain(asdict(settings)),
        "rows": rows,
        "provenance": provenance(),
    }
    write_json(settings.out, value)
    print(f"kept in {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
