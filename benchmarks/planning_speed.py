"""How fast are decisions imagined, compared with other ways, the linear layers alone and the roofline?

The scenarios are the paper's cartpole (128 x 100), walker (64 x 25) and humanoid (64 x 20), each with the
bundled checkpoint's network and with gato-79m, a table of contestants, and sweeps over sizes. Weights are
random. Every row is kept as soon as it is measured: if interrupted, the same command goes on.

    python benchmarks/planning_speed.py --only "table/*"
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from rich.console import Console

from speed.clock import free_bytes
from speed.llama import require_transformers
from speed.measure import Effort, measure
from speed.report import plot_sweeps, row_table
from speed.results import read_rows, write_rows
from speed.scenarios import chosen
from tdm_agents.cli.checks import at_least, output_file, usable_device


@dataclass(frozen=True)
class Settings:
    """Scenarios, contestants and files."""

    only: tuple[str, ...] = ()
    """Scenarios by name or pattern, such as `"table/*" cartpole/small`; all if not given."""
    list: bool = False
    """Print the names of the scenarios and measure nothing."""
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    """Type of weights, keys and values."""
    without: tuple[str, ...] = ()
    """Contestants to leave out, such as `transformers "no cache"`."""
    device: str = "cpu"
    """Device to compute on."""
    threads: int = 1
    """Threads of torch; more threads than idle cores are many times slower."""
    repeats: int = 3
    """Decisions per contestant, in turn; medians count."""
    seconds: float = 10.0
    """Seconds after which a decision is cut and marked `>`; the time of its first steps is scaled."""
    rounds: float = 4.5
    """Rounds of parallel decoding that are imposed on the random weights, at most one per scalar: as many as
    the bundled checkpoint needs (benchmarks/parallel_seconds.py)."""
    memory_gb: float | None = None
    """Memory for a decision in GiB; half of what is free if not given."""
    out: Path = Path("benchmarks/results/planning_speed.json")
    """Where to keep the rows."""
    plot: Path | None = None
    """Where to draw cost against K, H, history and B (PNG), if they were measured (`"sweep/*"`)."""


def main(settings: Settings) -> None:
    """Measure what has not been measured, print and keep every row, and draw.

    Raises:
        ImportError: If ``transformers`` takes part and is not installed.
        LookupError: If no scenario or contestant has such a name.
        ValueError: If a setting makes no sense, or the file was measured with others.
    """
    _check(settings)
    scenarios = chosen(settings.only, without=settings.without)
    if settings.list:
        print("\n".join(scenario.name for scenario in scenarios))
        return
    device = usable_device(settings.device)
    torch.set_num_threads(settings.threads)
    if any("transformers" in scenario.contestants for scenario in scenarios):
        require_transformers()
    common = {name: getattr(settings, name) for name in ("device", "threads", "repeats", "seconds", "rounds")}
    rows = read_rows(settings.out, common)
    console = Console()
    for scenario in scenarios:
        for dtype in settings.dtypes:
            key = f"{scenario.name}/{dtype}"
            if key not in rows:
                gigabytes = settings.memory_gb
                effort = Effort(
                    repeats=settings.repeats,
                    seconds=settings.seconds,
                    rounds=settings.rounds,
                    memory=free_bytes(device) // 2 if gigabytes is None else int(gigabytes * 2**30),
                )
                with console.status(key):
                    rows[key] = measure(scenario, dtype, device=device, effort=effort)
                write_rows(settings.out, common, rows)
            console.print(row_table(rows[key]))
    if settings.plot is not None:
        plot_sweeps(settings.plot, list(rows.values()))
        print(f"drawn in {settings.plot}")
    print(f"kept in {settings.out}")


def _check(settings: Settings) -> None:
    at_least(1, threads=settings.threads, repeats=settings.repeats)
    if not settings.seconds > 0:
        raise ValueError(f"--seconds is {settings.seconds}; expected more than 0")
    if not settings.rounds >= 1:
        raise ValueError(f"--rounds is {settings.rounds}; expected at least 1")
    if settings.memory_gb is not None and not settings.memory_gb > 0:
        raise ValueError(f"--memory-gb is {settings.memory_gb}; expected more than 0")
    output_file(settings.out)
    if settings.plot is not None:
        output_file(settings.plot, "--plot")


if __name__ == "__main__":
    main(tyro.cli(Settings))
