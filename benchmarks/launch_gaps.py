"""How long does a device wait for its next kernel during a decision, and which kernels take its time?

A decision under PyTorch's profiler: the kernels' own intervals, what is between them, and the kernels that
take most. On a CPU the intervals are those of operators, and what is between them is Python. The profiler
itself takes time at every launch, so that gaps of captured steps, which are launched at once, are truer.

    python benchmarks/launch_gaps.py --device cuda --scenario cartpole/gato-79m --dtype bfloat16
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from tdm_agents.benchmark.clock import Stopwatch
from tdm_agents.benchmark.contestants import CAPTURED, Decide, decide_as
from tdm_agents.benchmark.models import random_model
from tdm_agents.benchmark.scenarios import chosen
from tdm_agents.benchmark.speed import DTYPES
from tdm_agents.evaluation.as_json import plain
from tdm_agents.evaluation.report import provenance
from tdm_agents.storage import write_json

NAMED = 12
"""Kernels that are listed."""


@dataclass(frozen=True)
class Settings:
    """What is profiled."""

    out: Path = Path("benchmarks/results/launch_gaps.json")
    """Where to write the result."""
    scenario: str = "cartpole/small"
    """Decision, of ``tdm benchmark speed --list``."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of weights, keys and values."""
    ways: tuple[str, ...] = ("sequential", *CAPTURED)
    """Who decides."""
    device: str = "cpu"
    """Where."""
    threads: int = 1
    """PyTorch's threads."""


def busy(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def profiled(decide: Decide, device: torch.device) -> dict[str, Any]:
    """Seconds of a decision's kernels and gaps, after one that does not count."""
    for _ in decide():
        pass
    kind = DeviceType.CUDA if device.type == "cuda" else DeviceType.CPU
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    watch = Stopwatch(device)
    watch.start()  # once all that was launched is done
    with profile(activities=activities) as profiler:
        for _ in decide():
            pass
        watch.stop()
    intervals = []
    taken: dict[str, float] = defaultdict(float)
    count = 0
    for event in profiler.events() or ():
        if event.device_type != kind or event.cpu_parent is not None:  # what an operator calls is its time
            continue
        intervals.append((event.time_range.start / 1e6, event.time_range.end / 1e6))
        taken[event.name] += intervals[-1][1] - intervals[-1][0]
        count += 1
    whole = max(end for _, end in intervals) - min(start for start, _ in intervals)
    most = sorted(taken.items(), key=lambda item: -item[1])[:NAMED]
    return {
        "seconds": whole,
        "busy_seconds": busy(intervals),
        "gaps": 1 - busy(intervals) / whole,
        "kernels": count,
        "most": {name: seconds / whole for name, seconds in most},
    }


def main(settings: Settings) -> None:
    """Profile, print, and keep."""
    torch.set_num_threads(settings.threads)
    device = torch.device(settings.device)
    (scenario,) = chosen([settings.scenario])
    model = random_model(scenario.shape, device=device, dtype=DTYPES[settings.dtype])
    rows = {}
    for way in settings.ways:
        decide = decide_as(way, model, scenario.shape, max_rows=scenario.shape.rows)
        rows[way] = row = profiled(decide, device)
        most = ", ".join(f"{name} {share:.0%}" for name, share in list(row["most"].items())[:4])
        print(
            f"{way}: {row['kernels']:,} kernels in {row['seconds']:.3g} s, {row['gaps']:.0%} of it "
            f"between them; most: {most}",
            flush=True,
        )
    value = {"schema": 1, "settings": plain(asdict(settings)), "rows": rows, "provenance": provenance()}
    write_json(settings.out, value)
    print(f"kept in {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
