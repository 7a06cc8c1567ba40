"""The figures of studies: normalised returns, or curves of returns or shares of successes per task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.ticker import FixedLocator, NullLocator

from tdm_agents.plot_style import PLAYERS, STYLE, clean, save
from tdm_agents.studies.panels import panels_of
from tdm_agents.studies.stages import Figure

_MARKERS = "osD^v"
_ACROSS = 3
_FEW = 6
"""Contestants whose bands can be told apart."""


def draw(path: Path, figure: Figure, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the figure of a report.

    Args:
        path: The file; its suffix names the format.
        figure: What to draw.
        rows: The report's contestants.
    """
    {"bars": _bars, "curves": _curves, "successes": _successes}[figure.kind](path, figure, rows)


def _bars(path: Path, figure: Figure, rows: Sequence[Mapping[str, Any]]) -> None:
    # where nothing has a scale (a smoke run, say), the bars are there and empty
    shown = [row for row in rows if row["role"] not in ("random", "simulator")]
    drawn = _figure(7.5, 1.2 + 0.42 * max(len(shown), 3))
    axis = drawn.subplots()
    for at, row in enumerate(shown):
        if (found := row["normalised"]) is None:
            continue
        look = _look(at)
        _bar(axis, at, found, look)
    for end in (0, 1):
        axis.axvline(end, color="0.6", linewidth=0.8, linestyle=":")
    axis.set_yticks(range(len(shown)), [_label(row) for row in shown], fontsize=8)
    axis.set_ylim(max(len(shown), 1) - 0.5, -0.5)
    told = f"normalised return: IQM, 95 % interval\n(0 random actions, 1 {figure.one})"
    axis.set_xlabel(told, **STYLE)
    axis.set_title(figure.title, loc="left", fontweight="bold", **STYLE)
    clean(axis)
    save(path, drawn)


def _successes(path: Path, figure: Figure, rows: Sequence[Mapping[str, Any]]) -> None:
    panels = panels_of(rows)
    labels = list(dict.fromkeys(str(row["label"]) for row in rows))
    drawn = _figure(2.6 + 1.9 * len(panels), 0.9 + 0.3 * max(len(labels), 3))
    axes = drawn.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (name, own) in zip(axes, panels.items(), strict=True):
        for row in own:
            at = labels.index(str(row["label"]))
            _bar(axis, at, row["here"], _look(at))
        axis.set_xlim(-0.05, 1.05)
        axis.set_title(name.split()[0], loc="left", **STYLE)
        clean(axis)
    axes[0].set_yticks(range(len(labels)), labels, fontsize=8)
    axes[0].set_ylim(len(labels) - 0.5, -0.5)
    drawn.suptitle(figure.title, x=0.01, ha="left", fontweight="bold", **STYLE)
    drawn.supxlabel("share of successes, 95 % interval", **STYLE)
    save(path, drawn)


def _bar(axis: Axes, at: int, found: Mapping[str, float], look: Mapping[str, Any]) -> None:
    """An interval as a broad line, and its value as a marker."""
    axis.plot([found["low"], found["high"]], [at, at], color=look["color"], linewidth=5, alpha=0.3,
              solid_capstyle="butt")  # fmt: skip
    axis.plot(found["value"], at, **look)


def _curves(path: Path, figure: Figure, rows: Sequence[Mapping[str, Any]]) -> None:
    labels = list(dict.fromkeys(str(row["label"]) for row in rows))
    looks = {label: _look(number) for number, label in enumerate(labels)}
    panels = panels_of(rows)
    across = min(len(panels), _ACROSS)
    down = math.ceil(len(panels) / across)
    drawn = _figure(4.6 * across, 3.2 * down + 0.25 * math.ceil(len(labels) / across))
    axes = list(drawn.subplots(down, across, squeeze=False).flat)
    for axis, (name, own) in zip(axes, panels.items(), strict=False):
        few = len(labels) <= _FEW
        for label in labels:
            _curve(axis, [row for row in own if row["label"] == label], looks[label], band=few)
        ticks = sorted({row["x"] for row in own if row["x"] is not None})
        if figure.logarithmic:
            axis.set_xscale("log")
            axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_locator(FixedLocator(ticks))
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_xlabel(figure.x_label, **STYLE)
        axis.set_ylabel("return: IQM, 95 % interval", **STYLE)
        axis.set_title(name, loc="left", fontweight="bold", **STYLE)
        clean(axis)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    drawn.suptitle(figure.title, x=0.01, ha="left", fontweight="bold", **STYLE)
    told = {
        name: handle
        for axis in drawn.axes
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    drawn.legend(told.values(), told, loc="outside lower center", ncols=across, fontsize=8, frameon=False)
    save(path, drawn)


def _curve(
    axis: Axes, rows: Sequence[Mapping[str, Any]], look: Mapping[str, Any], *, band: bool = True
) -> None:
    """One contestant: a line over its points, or a level where it has no position.

    Its intervals are a ``band``, or strokes: many bands hide each other.
    """
    points = sorted((row["x"], row["here"]["low"], row["here"]["value"], row["here"]["high"])
                    for row in rows if row["x"] is not None)  # fmt: skip
    for row in rows:
        if row["x"] is None:
            axis.axhline(row["here"]["value"], color=look["color"], linestyle="--", linewidth=1,
                         label=row["label"])  # fmt: skip
    if points:
        x, low, middle, high = zip(*points, strict=True)
        if band:
            axis.fill_between(x, low, high, color=look["color"], alpha=0.12, linewidth=0)
        if len(points) == 1 or not band:
            axis.vlines(x, low, high, color=look["color"], alpha=0.3, linewidth=5 if band else 2)
        axis.plot(x, middle, label=rows[0]["label"], linewidth=1.2, **look)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure as Canvas

    drawn = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn


def _look(number: int) -> dict[str, Any]:
    again = number // len(PLAYERS)
    line = "--" if again % 2 else "-"
    marker = _MARKERS[again % len(_MARKERS)]
    return {"color": PLAYERS[number % len(PLAYERS)], "marker": marker, "markersize": 5, "linestyle": line}


def _label(row: Mapping[str, Any]) -> str:
    return str(row["label"]) if row["x"] is None else f"{row['label']}, {row['x']:g}"
