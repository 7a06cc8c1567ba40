"""The figures of studies: bars of normalised returns, or curves of returns, one panel per task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.ticker import FixedLocator, NullLocator

from tdm_agents.plot_style import PLAYERS, STYLE, clean, save
from tdm_agents.studies.stages import Figure

_MARKERS = "osD^v"


def draw(path: Path, figure: Figure, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the figure of a report.

    Args:
        path: The file; its suffix names the format.
        figure: What to draw.
        rows: The report's contestants.
    """
    (_bars if figure.kind == "bars" else _curves)(path, figure, rows)


def _bars(path: Path, figure: Figure, rows: Sequence[Mapping[str, Any]]) -> None:
    # where nothing has a scale (a smoke run, say), the bars are there and empty
    shown = [row for row in rows if row["role"] not in ("random", "simulator")]
    drawn = _figure(7.5, 1.2 + 0.42 * max(len(shown), 3))
    axis = drawn.subplots()
    for at, row in enumerate(shown):
        if (found := row["normalised"]) is None:
            continue
        look = _look(at)
        axis.plot([found["low"], found["high"]], [at, at], color=look["color"], linewidth=5, alpha=0.3,
                  solid_capstyle="butt")  # fmt: skip
        axis.plot(found["iqm"], at, **look)
    for end in (0, 1):
        axis.axvline(end, color="0.6", linewidth=0.8, linestyle=":")
    axis.set_yticks(range(len(shown)), [_label(row) for row in shown], fontsize=8)
    axis.set_ylim(len(shown) - 0.5, -0.5)
    axis.set_xlabel("normalised return (0 random, 1 true dynamics): IQM, 95 % interval", **STYLE)
    axis.set_title(figure.title, loc="left", fontweight="bold", **STYLE)
    clean(axis)
    save(path, drawn)


def _curves(path: Path, figure: Figure, rows: Sequence[Mapping[str, Any]]) -> None:
    tasks = list(dict.fromkeys(task for row in rows for task in row["tasks"]))
    labels = list(dict.fromkeys(str(row["label"]) for row in rows))
    drawn = _figure(4.6 * len(tasks), 4.2)
    for axis, task in zip(drawn.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for number, label in enumerate(labels):
            own = [row for row in rows if row["label"] == label and task in row["tasks"]]
            _curve(axis, own, task, _look(number))
        ticks = sorted({row["x"] for row in rows if task in row["tasks"] and row["x"] is not None})
        if figure.logarithmic:
            axis.set_xscale("log")
            axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_locator(FixedLocator(ticks))
        axis.set_xticklabels([f"{tick:g}" for tick in ticks])
        axis.set_xlabel(figure.x_label, **STYLE)
        axis.set_title(task, loc="left", fontweight="bold", **STYLE)
        clean(axis)
    drawn.axes[0].set_ylabel("return: IQM, 95 % interval", **STYLE)
    handles, names = drawn.axes[0].get_legend_handles_labels()
    drawn.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    save(path, drawn)


def _curve(axis: Axes, rows: Sequence[Mapping[str, Any]], task: str, look: Mapping[str, Any]) -> None:
    """One contestant: a line over its points, or a level where it has no position."""
    points = sorted(
        ((row["x"], row["tasks"][task]) for row in rows if row["x"] is not None), key=lambda point: point[0]
    )
    for row in rows:
        if row["x"] is None:
            axis.axhline(row["tasks"][task]["iqm"], color=look["color"], linestyle="--", linewidth=1,
                         label=row["label"])  # fmt: skip
    if points:
        x = [at for at, _ in points]
        axis.fill_between(x, [p["low"] for _, p in points], [p["high"] for _, p in points],
                          color=look["color"], alpha=0.15, linewidth=0)  # fmt: skip
        axis.plot(x, [p["iqm"] for _, p in points], label=rows[0]["label"], linewidth=1.2, **look)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure as Canvas

    drawn = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn


def _look(number: int) -> dict[str, Any]:
    marker = _MARKERS[number // len(PLAYERS) % len(_MARKERS)]
    return {"color": PLAYERS[number % len(PLAYERS)], "marker": marker, "markersize": 5}


def _label(row: Mapping[str, Any]) -> str:
    return str(row["label"]) if row["x"] is None else f"{row['label']}, {row['x']:g}"
