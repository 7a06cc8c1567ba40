"""What do gaps between rows cost when a token attends to what its row imagined?

Products of one query a row with the row's keys, and of weights with its values, at the sizes of `table/...`
(`tdm benchmark speed`): rows that lie one behind the other in memory, and rows that are some tokens apart, as
they are in buffers with room for tokens to come. Several buffers in turn, so that none stays in a cache. All
in turn, in one run; medians.

    python benchmarks/packed_suffix.py
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro

from tdm_agents.evaluation.report import provenance
from tdm_agents.storage import write_json


@dataclass(frozen=True)
class Settings:
    """Sizes, and how often."""

    out: Path = Path("benchmarks/results/packed_suffix.json")
    """Where to write the result."""
    matrices: int = 512
    """Rows times heads."""
    head_dim: int = 32
    """Of keys and values."""
    tokens: tuple[int, ...] = (16, 32, 64, 96, 128, 160)
    """Keys of a row."""
    gaps: tuple[int, ...] = (0, 1, 4, 16, 64)
    """Tokens between rows."""
    buffers: int = 8
    """In turn; a decision of four blocks has as many."""
    repeats: int = 15
    """Rounds through everything."""
    threads: int = 1
    """PyTorch's threads."""


def product(settings: Settings, tokens: int, gap: int) -> Callable[[], object]:
    """Keys and values of the next buffer, multiplied."""
    shape = (settings.matrices, tokens + gap, settings.head_dim)
    buffers = itertools.cycle([torch.rand(shape)[:, :tokens] for _ in range(settings.buffers)])
    query = torch.rand((settings.matrices, 1, settings.head_dim))
    weights = torch.rand((settings.matrices, 1, tokens))

    def multiply() -> object:
        return torch.bmm(query, next(buffers).transpose(1, 2)), torch.bmm(weights, next(buffers))

    return multiply


def main(settings: Settings) -> None:
    """Measure, print, and keep."""
    torch.set_num_threads(settings.threads)
    rows = []
    for tokens in settings.tokens:
        works = {gap: product(settings, tokens, gap) for gap in settings.gaps}
        taken: dict[int, list[float]] = {gap: [] for gap in works}
        for _ in range(settings.repeats):
            for gap, work in works.items():
                work()
                began = time.perf_counter()
                for _ in range(settings.buffers):
                    work()
                taken[gap].append((time.perf_counter() - began) / settings.buffers)
        seconds = {str(gap): statistics.median(found) for gap, found in taken.items()}
        packed = seconds[str(settings.gaps[0])]
        ratios = {gap: value / packed for gap, value in seconds.items()}
        rows.append({"tokens": tokens, "seconds": seconds, "over_packed": ratios})
        said = ", ".join(f"{gap} tokens apart {ratio:.2f}" for gap, ratio in ratios.items())
        print(f"{tokens} tokens, {1e6 * packed:.0f} us; relative to it: {said}", flush=True)
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
