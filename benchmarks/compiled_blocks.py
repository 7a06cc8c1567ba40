"""Is a decision faster if the halves of a block are compiled?

The same weights, history, actions and draws; `torch.compile` of what stands before and after attention in
each block, for any number of rows. Both in turn, in one run; medians. On a CPU it needs a C++ compiler.

    python benchmarks/compiled_blocks.py
"""

from __future__ import annotations

import copy
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MethodType

import torch
import tyro

from tdm_agents.benchmark.contestants import Decide, decide_as
from tdm_agents.benchmark.models import random_model
from tdm_agents.benchmark.scenarios import chosen
from tdm_agents.evaluation.report import provenance
from tdm_agents.storage import write_json
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.network import Block


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    out: Path = Path("benchmarks/results/compiled_blocks.json")
    """Where to write the result."""
    scenarios: tuple[str, ...] = ("table/history-10", "table/history-118")
    """Decisions, of ``tdm benchmark speed --list``."""
    repeats: int = 5
    """Decisions of each, in turn."""
    threads: int = 1
    """PyTorch's threads."""


def compiled(model: TransformerWorldModel) -> TransformerWorldModel:
    """A copy whose blocks are compiled, but for attention."""
    other = copy.deepcopy(model)
    before, after = (torch.compile(half, dynamic=True) for half in (Block.project_step, Block.finish))
    for block in other.network.blocks:
        block.project_step, block.finish = MethodType(before, block), MethodType(after, block)  # type: ignore[assignment]
    return other


def seconds(decide: Decide) -> float:
    """Of one decision."""
    began = time.perf_counter()
    for _ in decide():
        pass
    return time.perf_counter() - began


def main(settings: Settings) -> None:
    """Measure, print, and keep."""
    torch.set_num_threads(settings.threads)
    rows = {}
    for scenario in chosen(settings.scenarios):
        model = random_model(scenario.shape)
        ways = {
            name: decide_as("sequential", one, scenario.shape, max_rows=scenario.shape.rows)
            for name, one in (("eager", model), ("compiled", compiled(model)))
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
            "eager_over_compiled": medians["eager"] / medians["compiled"],
        }
        print(scenario.name, json.dumps(rows[scenario.name] | {"medians": medians}, indent=2), flush=True)
    value = {
        "schema": 1,
        "settings": asdict(settings) | {"out": str(settings.out)},
        "rows": rows,
        "provenance": provenance(),
    }
    write_json(settings.out, value)
    print(f"kept in {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
