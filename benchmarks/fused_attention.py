"""How much faster is a decision if rows attend by one compiled loop instead of by PyTorch's products?

The same weights, history, actions and draws, with one thread and with two, in turn in one run; medians. Also,
how many of the tokens are the same, and how long compiling takes where nothing is kept on disk.

    python benchmarks/fused_attention.py
"""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import torch
import tyro

from tdm_agents.benchmark.clock import time_decision
from tdm_agents.benchmark.contestants import Decide, decide_as
from tdm_agents.benchmark.models import random_model
from tdm_agents.benchmark.scenarios import chosen
from tdm_agents.evaluation.as_json import plain
from tdm_agents.evaluation.report import provenance
from tdm_agents.storage import write_json
from tdm_agents.world_models.transformer.decoding.options import Attention

_COMPILE = """
import time
from tdm_agents.world_models.transformer.cpu import attention_loop
began = time.perf_counter()
attention_loop.attention(4, 32)
print(time.perf_counter() - began)
"""


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    out: Path = Path("benchmarks/results/fused_attention.json")
    """Where to write the result."""
    scenarios: tuple[str, ...] = ("table/history-10", "table/history-118", "cartpole/small", "walker/small")
    """Decisions, of ``tdm benchmark speed --list``."""
    repeats: int = 7
    """Decisions of each, in turn."""
    threads: tuple[int, ...] = (1, 2)
    """PyTorch's threads."""


def compile_seconds() -> list[float]:
    """To compile the loop, and to find it on disk."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        command = [sys.executable, "-c", _COMPILE]
        return [float(subprocess.check_output(command, env=environment)) for _ in range(2)]


def main(settings: Settings) -> None:
    """Measure, print, and keep."""
    device = torch.device("cpu")

    def seconds(decide: Decide) -> float:
        return time_decision(decide(), device, at_most=math.inf).seconds

    rows = []
    for scenario in chosen(settings.scenarios):
        model, shape = random_model(scenario.shape), scenario.shape
        ways = {
            way: decide_as("sequential", model.with_decoding(attention=way), shape, max_rows=shape.rows)
            for way in get_args(Attention)
        }
        fused, products = (torch.stack(list(decide())) for decide in ways.values())
        same = float(((fused - products).abs() < 1e-4).float().mean())
        for threads in settings.threads:
            torch.set_num_threads(threads)
            times: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(settings.repeats):
                for way, decide in ways.items():
                    times[way].append(seconds(decide))
            medians = {way: statistics.median(taken) for way, taken in times.items()}
            rows.append(
                {
                    "scenario": scenario.name,
                    "threads": threads,
                    "seconds": times,
                    "times_as_fast": medians["products"] / medians["fused"],
                    "same_scalars": same,
                }
            )
            shown = ", ".join(f"{way} {median:.2f} s" for way, median in medians.items())
            print(f"{scenario.name}, {threads} threads: {shown}; {100 * same:.2f} % the same", flush=True)
    compiling, loading = compile_seconds()
    print(f"compiled in {compiling:.1f} s, found on disk in {loading:.2f} s")
    value = {
        "schema": 1,
        "settings": plain(asdict(settings)),
        "rows": rows,
        "compile_seconds": compiling,
        "load_seconds": loading,
        "provenance": provenance(),
    }
    write_json(settings.out, value)
    print(f"kept in {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
