"""Are decisions as fast as at another commit?

    python benchmarks/beside_commit.py --commit 526cf19 --options=--no-keep-memory

Each round measures the scenarios with the other commit's code and with this one's, each in a process of its
own, one after the other, so that what the machine does meanwhile happens to both. What is compared is the
median of the rounds' ratios; below 1, this code is faster.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from keep import result
from other_commit import ROOT, checkout_of, run_with


@dataclass(frozen=True)
class Settings:
    """What is compared."""

    commit: str
    """The other commit."""
    options: tuple[str, ...] = ()
    """Of ``planning_speed.py`` as it was at that commit, beside those that both get."""
    only: tuple[str, ...] = ("table/*",)
    """Scenarios."""
    without: tuple[str, ...] = ("transformers", "no cache", "grown cache", "copied cache", "parallel")
    """Contestants that are left out."""
    rounds: int = 7
    """Measurements of each."""
    repeats: int = 3
    """Decisions per measurement."""
    out: Path = Path("benchmarks/results/beside_commit.json")
    """Where the result is kept."""


def seconds(checkout: Path, settings: Settings, options: tuple[str, ...]) -> dict[str, float]:
    """Seconds per decision by scenario, with a checkout's own code."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        words = [sys.executable, str(checkout / "benchmarks" / "planning_speed.py"), "--out", str(out)]
        words += ["--dtypes", "float32", "--repeats", str(settings.repeats), "--seconds", "60"]
        words += ["--only", *settings.only, "--without", *settings.without, *options]
        run_with(checkout, words)
        rows = json.loads(out.read_text())["rows"]
    return {
        name: statistics.median(row["contestants"]["sequential"]["seconds"]) for name, row in rows.items()
    }


def main(settings: Settings) -> None:
    """Measure in turns, print the ratios, and keep them."""
    there: list[dict[str, float]] = []
    here: list[dict[str, float]] = []
    with checkout_of(settings.commit) as other:
        for round_ in range(settings.rounds):
            there.append(seconds(other, settings, settings.options))
            here.append(seconds(ROOT, settings, ()))
            print(f"round {round_ + 1} of {settings.rounds}: {there[-1]} there, {here[-1]} here", flush=True)
    ratios = {
        name: statistics.median(h[name] / t[name] for h, t in zip(here, there, strict=True))
        for name in here[0]
    }
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f} times the seconds of {settings.commit}")
    result(settings.out, settings, there=there, here=here, ratios=ratios)


if __name__ == "__main__":
    main(tyro.cli(Settings))
