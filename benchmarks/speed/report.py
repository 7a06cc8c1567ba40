"""Tables and plots of the rows of a speed measurement."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.table import Table

Row = Mapping[str, Any]

_COLUMNS = (
    "s per\ndecision",
    "tokens\nper second",
    "transi-\ntions",
    "deci-\nsions",
    "x real\ntime",
    "MB",
    "of the\nfloor",
    "roof-\nline",
    "call\nfloor",
)
"""Columns of the table: rates are per second; the last three are the reached shares of a limit."""

_SIZES = {
    "num_samples": "candidates K",
    "horizon": "horizon H",
    "history_steps": "steps of history",
    "batch": "environments B",
}


def row_table(row: Row) -> Table:
    """The table of all contestants' decisions in one row."""
    # narrow, so that it fits a terminal of 80 columns
    shown = Table(title=f"{row['scenario']}, {row['dtype']}", box=SIMPLE_HEAD, show_edge=False, padding=0)
    shown.add_column("who", no_wrap=True, min_width=12)
    for column in _COLUMNS:
        shown.add_column(column, justify="right", no_wrap=True)
    for name, found in row["contestants"].items():
        shown.add_row(
            name,
            f"{'' if found['whole'] else '>'}{_seconds(row, name):.3g}",
            f"{found['tokens_per_second']:,.0f}",
            f"{found['transitions_per_second']:,.0f}",
            f"{found['decisions_per_second']:.3g}",
            f"{found['times_real_time']:.2g}",
            f"{found['peak_bytes'] / 1e6:,.0f}",
            *(_percent(found[share]) for share in ("of_floor", "of_roofline", "of_call_floor")),
        )
    limits = row["limits"]["sequential"]
    for name, seconds in (
        ("the floor", row["floor_seconds"]),
        ("roofline", limits["roofline_seconds"]),
        ("call floor", limits["call_floor_seconds"]),
    ):
        shown.add_row(name, f"{seconds:.3g}", style="dim")
    shown.caption = "; ".join(f"{name} {why}" for name, why in row["left_out"].items()) or None
    return shown


def plot_sweeps(path: Path, rows: Sequence[Row]) -> None:
    """Draw seconds per decision against K, H, history and B, of the rows of the group ``sweep``.

    Args:
        path: Where to write; the suffix is the format.
        rows: Rows of one measurement; only sweeps are drawn.

    Raises:
        ValueError: If there is no sweep.
    """
    sweeps = [row for row in rows if row["scenario"].startswith("sweep/")]
    if not sweeps:
        raise ValueError("no row of the group sweep to draw; measure some, with --only 'sweep/*'")
    figure = Figure(figsize=(12.0, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(_SIZES), sharey=True, squeeze=False)[0]
    for axes, (size, label) in zip(panels, _SIZES.items(), strict=True):
        of_size = [row for row in sweeps if row["scenario"].startswith(f"sweep/{size}-")]
        for dtype in sorted({row["dtype"] for row in of_size}):
            some = sorted((r for r in of_size if r["dtype"] == dtype), key=lambda r: r["shape"][size])
            values = [row["shape"][size] for row in some]
            names = dict.fromkeys(name for row in some for name in row["contestants"])
            for name in names:
                seconds = [_seconds(row, name) for row in some]
                axes.plot(values, seconds, marker="o", label=f"{name}, {dtype}")
            roofline = [row["limits"]["sequential"]["roofline_seconds"] for row in some]
            line = "--" if dtype == "float32" else ":"
            axes.plot(values, roofline, color="grey", linestyle=line, label=f"roofline, {dtype}")
        axes.set(xlabel=label, xscale="log", yscale="log")
        measured = sorted({row["shape"][size] for row in of_size})
        axes.set_xticks(measured, [str(value) for value in measured])
        axes.set_xticks([], minor=True)
    panels[0].set_ylabel("seconds until all have decided")
    handles = {
        label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _seconds(row: Row, name: str) -> float:
    """The median of the seconds until all environments have decided."""
    seconds: float = statistics.median(row["contestants"][name]["seconds"])
    return seconds


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"
