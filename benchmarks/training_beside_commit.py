"""Are updates of the transformer as fast as at another commit?

    python benchmarks/training_beside_commit.py --commit f055c54

Each round measures every shape with the other commit's code and with this one's, each in a process of its
own, one after the other, so that what the machine does meanwhile happens to both. What is compared is the
median of the rounds' ratios; above 1, this code is faster.
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

SHAPES = {
    "cartpole": ("small", 5, 1, 12 * 8),
    "walker": ("small", 24, 6, 12 * 32),
    "walkers": ("small-generalist", 28, 8, 12 * 38),
}
"""Preset, scalars of observation and action, and tokens of 12 decisions: windows as the studies have them."""


@dataclass(frozen=True)
class Settings:
    """What is compared."""

    commit: str
    """The other commit."""
    windows: int = 24
    """Windows per update."""
    rounds: int = 5
    """Measurements of each."""
    repeats: int = 5
    """Updates per measurement."""
    threads: int = 1
    """PyTorch's threads."""
    out: Path = Path("benchmarks/results/training_beside_commit.json")
    """Where the result is kept."""


def tokens_per_second(checkout: Path, settings: Settings, shape: str, *, bf16: bool) -> float:
    """Of updates by a checkout's own code."""
    preset, observation, action, context = SHAPES[shape]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        words = [sys.executable, str(checkout / "benchmarks" / "training_speed.py"), "--out", str(out)]
        words += ["--preset", preset, "--context", str(context), "--windows", str(settings.windows)]
        words += ["--observation-dim", str(observation), "--action-dim", str(action)]
        words += ["--repeats", str(settings.repeats), "--threads", str(settings.threads), "--ways", "tdm"]
        words += ["--bf16"] if bf16 else []
        run_with(checkout, words)
        found: float = json.loads(out.read_text())["ways"]["tdm"]["tokens_per_second"]
    return found


def main(settings: Settings) -> None:
    """Measure in turns, print the ratios, and keep them."""
    rows: dict[str, dict[str, list[float]]] = {}
    with checkout_of(settings.commit) as other:
        for _ in range(settings.rounds):
            for shape in SHAPES:
                for bf16 in (False, True):
                    row = rows.setdefault(f"{shape}, {'bfloat16' if bf16 else 'float32'}", {})
                    for who, checkout in (("there", other), ("here", ROOT)):
                        speed = tokens_per_second(checkout, settings, shape, bf16=bf16)
                        row.setdefault(who, []).append(speed)
    ratios = {
        name: statistics.median(h / t for h, t in zip(row["here"], row["there"], strict=True))
        for name, row in rows.items()
    }
    for name, ratio in ratios.items():
        there, here = (statistics.median(rows[name][who]) for who in ("there", "here"))
        print(
            f"{name}: {here:,.0f} tokens per second, {ratio:.2f} times the {there:,.0f} of {settings.commit}"
        )
    result(settings.out, settings, tokens_per_second=rows, ratios=ratios)


if __name__ == "__main__":
    main(tyro.cli(Settings))
