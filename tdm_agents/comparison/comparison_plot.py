"""A comparison as a picture: how high the returns are, and how much time a decision takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from tdm_agents.errors import WrongValueError
from tdm_agents.plot_style import PLAYERS, STYLE, clean, save

MARKERS = "osD^v"


def plot_comparison(path: Path, sections: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write the picture as PNG (or whatever the path's suffix says), one row per section.

    On the left are interquartile mean returns with their intervals; on the right, the same over the
    milliseconds per decision.

    Args:
        path: The file to write.
        sections: Objects with a ``"contestant"`` and a ``"summary"``, by title; see
            :func:`tdm_agents.comparison.comparison_report.sections`.

    Raises:
        ValueError: If there is nothing to draw.
    """
    if not sections or not all(sections.values()):
        raise WrongValueError(
            f"nothing to draw in {dict(sections)}; expected at least one contestant per section"
        )
    heights = [1.6 + 0.34 * max(len(reports), 4) for reports in sections.values()]
    figure = Figure(figsize=(10.0, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(sections), 2, squeeze=False, width_ratios=(3, 2), height_ratios=heights)
    for (left, right), (title, reports) in zip(axes, sections.items(), strict=True):
        _returns(left, reports)
        _costs(right, reports)
        left.set_title(title, loc="left", fontweight="bold", **STYLE)
    save(path, figure)


def _returns(axis: Axes, reports: Sequence[Mapping[str, Any]]) -> None:
    for i, report in enumerate(reports):
        s = report["summary"]
        look = _look(i)
        axis.plot([s["iqm_low"], s["iqm_high"]], [i, i], color=look["color"], linewidth=5, alpha=0.3,
                  solid_capstyle="butt")  # fmt: skip
        axis.plot(s["iqm"], i, **look)
        axis.plot(s["mean"], i, "|", color=look["color"], markersize=11)
    level = reports[0]["summary"]["level"]
    axis.set_yticks(range(len(reports)), [_short(str(r["contestant"])) for r in reports], fontsize=8)
    axis.set_ylim(len(reports) - 0.5, -0.5)
    axis.set_xlabel(f"return: IQM, {100 * level:g} % interval, mean (bar)", **STYLE)
    clean(axis)


def _costs(axis: Axes, reports: Sequence[Mapping[str, Any]]) -> None:
    for i, report in enumerate(reports):
        s = report["summary"]
        look = _look(i)
        x = s["milliseconds_per_decision"]
        axis.plot([x, x], [s["iqm_low"], s["iqm_high"]], color=look["color"], linewidth=3, alpha=0.3)
        axis.plot(x, s["iqm"], **look)
    axis.set_xscale("log")
    costs = [r["summary"]["milliseconds_per_decision"] for r in reports]
    low, high = math.floor(math.log10(min(costs) / 1.5)), math.ceil(math.log10(max(costs) * 1.5))
    axis.set_xlim(10.0**low, 10.0**high)  # whole decades, so that their ticks are enough
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("milliseconds per decision", **STYLE)
    axis.set_ylabel("IQM return", **STYLE)
    clean(axis)


def _look(index: int) -> dict[str, Any]:
    """Colour and marker of a contestant. Colours repeat after five, colour and marker together after 25."""
    marker = MARKERS[index // len(PLAYERS) % len(MARKERS)]
    return {"color": PLAYERS[index % len(PLAYERS)], "marker": marker, "markersize": 7}


def _short(label: str, width: int = 44) -> str:
    return label if len(label) <= width else f"{label[: width - 1]}…"
