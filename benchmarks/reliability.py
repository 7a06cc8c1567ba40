"""What happens when processes are killed, disks are full, and circumstances are odd?

    python benchmarks/reliability.py

Every promise of ``docs/reliability.md`` is tried, in small runs of Pendulum: kills at random moments,
signals, two processes in one folder, full and read-only disks (a tmpfs, which only root may mount), and
agents that decide under circumstances that broke other packages. Linux alone: it looks into ``/proc``.
"""

from __future__ import annotations

import dataclasses
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro

from harm import circumstances, commands, disks, kills, pairs, signals
from harm.rows import Row, table
from keep import part, result
from tdm_agents.evaluation.report import git_commit

HEADING = "## What was tried"


@dataclass(frozen=True)
class Settings:
    """How often."""

    out: Path = Path("benchmarks/results/reliability.json")
    """Where the result is written."""
    parts: Path = Path("runs/reliability")
    """Where finished parts are kept, so that an interrupted run goes on."""
    kills: int = 50
    """SIGKILLs of each kind."""
    signals: int = 20
    """SIGINTs, and SIGTERMs."""
    pairs: int = 12
    """Pairs of processes in one folder, a third each of training, collecting and comparing."""
    only: tuple[str, ...] = ()
    """Parts to try, by name; all by default. Of some parts no result is written."""
    page: Path | None = None
    """Page into which the table is written, below its last heading; by default none."""


def main(settings: Settings) -> int:
    """Try everything; 1 if a promise was broken."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        data = root / "few" / "data"
        status, said = commands.complete(commands.collect_words(root / "few", 8), root / "said")
        assert status == 0, said
        agent = root / "agent"
        status, said = commands.complete(
            commands.train_words(data, agent, "transformer", steps=4), root / "said"
        )
        assert status == 0, said
        times = settings.kills
        tried: dict[str, Callable[[], list[Row]]] = {
            "circumstances": lambda: circumstances.rows(agent, root),
            "train-mlp": lambda: [kills.killed_training(root, data, "mlp", times)],
            "train-transformer": lambda: [kills.killed_training(root, data, "transformer", times)],
            "compare": lambda: [kills.killed_comparison(root, times)],
            "sigint": lambda: [signals.signalled(root, data, signal.SIGINT, settings.signals)],
            "sigterm": lambda: [signals.signalled(root, data, signal.SIGTERM, settings.signals)],
            "together": lambda: [pairs.together(root, data, settings.pairs)],
            "full": lambda: [disks.full_disks(root, data)],
            "read-only": lambda: [disks.read_only(root, data), disks.read_only_data(root, data, 4)],
            "collect-parent": lambda: [kills.killed_collectors(root, times)],
            "collect-worker": lambda: [kills.killed_workers(root, times)],
        }
        rows: list[Row] = []
        measured_at: dict[str, str | None] = {}  # parts that were kept may be older than this run
        for name, make in tried.items():
            if settings.only and name not in settings.only:
                continue
            kept = {"kills": times, "signals": settings.signals, "pairs": settings.pairs}
            found = part(
                settings.parts / f"{name}.json",
                kept,
                lambda make=make: {  # type: ignore[misc]
                    "commit": git_commit(),
                    "rows": [dataclasses.asdict(row) for row in make()],
                },
            )
            measured_at[name] = found["commit"]
            rows += [Row(**row) for row in found["rows"]]
            for row in rows[-len(found["rows"]) :]:
                print(
                    f"{row.times:4} x {row.what}: {len(row.failures)} failures {row.failures[:3]}", flush=True
                )
    if not settings.only:
        result(
            settings.out, settings, measured_at=measured_at, rows=[dataclasses.asdict(row) for row in rows]
        )
    print(table(rows))
    if settings.page is not None:
        above = settings.page.read_text().partition(HEADING)[0]
        settings.page.write_text(f"{above}{HEADING}\n\n{table(rows)}\n")
    return int(any(row.failures for row in rows))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings)))
