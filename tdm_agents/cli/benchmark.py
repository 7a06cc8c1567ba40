"""``tdm benchmark``: how fast decisions are imagined here, and how fast they could be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from tdm_agents.cli.checks import at_least, output_file


@dataclass(frozen=True)
class Benchmark:
    """Measure how fast the transformer imagines decisions, beside other ways and beside what it must cost.

    `tdm benchmark speed` measures scenarios one by one: the paper's cartpole (128 x 100), walker (64 x 25)
    and humanoid (64 x 20), each with the bundled checkpoint's network and with gato-79m, and others. Weights
    are random. Every row is kept as soon as it is measured: interrupted, the same command goes on where it
    stopped.
    """

    what: tyro.conf.Positional[Literal["speed"]]
    """What to measure."""
    only: tuple[str, ...] = ()
    """Scenarios, by name or pattern, such as `"table/*" cartpole/small`; all if not given."""
    list: bool = False
    """Print the names of the scenarios, and measure nothing."""
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    """Of weights, keys and values."""
    without: tuple[str, ...] = ()
    """Contestants to leave out, such as `transformers "no cache"`."""
    device: str = "cpu"
    """Where to compute."""
    threads: int = 1
    """Threads of torch; more than there are idle cores is many times slower."""
    keep_memory: bool = True
    """Let the C library keep freed memory, so that nobody waits for the system to clear pages (glibc)."""
    repeats: int = 3
    """Decisions of each contestant, in turn; medians count."""
    seconds: float = 10.0
    """After which a decision is cut, and marked `>`; its first steps are scaled."""
    rounds: float = 4.5
    """Rounds of parallel decoding that are imposed on the random weights, at most one a scalar; the bundled
    checkpoint needs as many (benchmarks/parallel_decoding.py)."""
    memory_gb: float | None = None
    """Memory for a decision; GiB; half of what is free if not given."""
    out: Path = Path("runs/planning_speed.json")
    """Where to keep the rows."""
    plot: Path | None = None
    """Where to draw cost against K, H, history and B (PNG), if these were measured (`"sweep/*"`)."""


def run(arguments: Benchmark) -> None:
    """Measure what has not been measured, print every row, keep it, draw.

    Raises:
        ImportError: If ``transformers`` takes part and is not installed.
        LookupError: If no scenario or contestant has such a name.
        ValueError: If a setting makes no sense, or the file was measured with others.
    """
    _check(arguments)
    import torch
    from rich.console import Console

    from tdm_agents.benchmark.allocation import keep_freed_memory
    from tdm_agents.benchmark.clock import free_bytes
    from tdm_agents.benchmark.llama import require_transformers
    from tdm_agents.benchmark.results import read_rows, write_rows
    from tdm_agents.benchmark.scenarios import chosen
    from tdm_agents.benchmark.speed import Effort, measure
    from tdm_agents.benchmark.speed_report import plot_sweeps, row_table
    from tdm_agents.cli.checks import usable_device

    scenarios = chosen(arguments.only, without=arguments.without)
    if arguments.list:
        print("\n".join(scenario.name for scenario in scenarios))
        return
    device = usable_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    if arguments.keep_memory:
        keep_freed_memory()
    if any("transformers" in scenario.contestants for scenario in scenarios):
        require_transformers()
    settings = {
        "device": arguments.device,
        "threads": arguments.threads,
        "keep_memory": arguments.keep_memory,
        "repeats": arguments.repeats,
        "seconds": arguments.seconds,
        "rounds": arguments.rounds,
    }
    rows = read_rows(arguments.out, settings)
    console = Console()
    for scenario in scenarios:
        for dtype in arguments.dtypes:
            key = f"{scenario.name}/{dtype}"
            if key not in rows:
                gigabytes = arguments.memory_gb
                effort = Effort(
                    repeats=arguments.repeats,
                    seconds=arguments.seconds,
                    rounds=arguments.rounds,
                    memory=free_bytes(device) // 2 if gigabytes is None else int(gigabytes * 2**30),
                )
                with console.status(key):
                    rows[key] = measure(scenario, dtype, device=device, effort=effort)
                write_rows(arguments.out, settings, rows)
            console.print(row_table(rows[key]))
    if arguments.plot is not None:
        plot_sweeps(arguments.plot, list(rows.values()))
        print(f"drawn in {arguments.plot}")
    print(f"kept in {arguments.out}")


def _check(arguments: Benchmark) -> None:
    at_least(1, threads=arguments.threads, repeats=arguments.repeats)
    if not arguments.seconds > 0:
        raise ValueError(f"--seconds is {arguments.seconds}; expected more than 0")
    if not arguments.rounds >= 1:
        raise ValueError(f"--rounds is {arguments.rounds}; expected at least 1")
    if arguments.memory_gb is not None and not arguments.memory_gb > 0:
        raise ValueError(f"--memory-gb is {arguments.memory_gb}; expected more than 0")
    output_file(arguments.out)
    if arguments.plot is not None:
        output_file(arguments.plot, "--plot")
