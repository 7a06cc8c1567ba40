"""The plot of ``planner_returns.py``: return over imagined transitions, one line per planner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from tdm_agents.plot_style import PLAYERS, REAL, STYLE, clean, save

PANELS = {"simulator": "the true simulator", "tdm": "the shipped TDM"}
MAXIMUM = 1000.0
# transitions imagined at each of the horizon's decisions, with K candidates
LOOKS = {
    "mppi": (PLAYERS[0], "mppi, 2 x K"),
    "cem": (PLAYERS[3], "cem, 2 x K"),
    "random_shooting": (REAL, "random_shooting, K"),
    "proposal_shooting": (PLAYERS[4], "proposal_shooting, K"),
    "beam_search": ("#8f5fbf", "beam_search, K"),
}


def plot_returns(path: Path, reports: Iterable[Mapping[str, Any]]) -> None:
    """Write a PNG (or whatever the path's suffix says).

    Lines join mean returns, small dots are the episodes. A planner that imagines nothing is a dashed line.

    Args:
        path: Where to write.
        reports: Evaluations with ``"model"``, ``"planner"`` and ``"num_samples"``.
    """
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    known = list(reports)
    for axis, (model, title) in zip(figure.subplots(1, 2, sharey=True), PANELS.items(), strict=True):
        own = [r for r in known if r["model"] == model]
        for planner, (colour, label) in LOOKS.items():
            _line(axis, [r for r in own if r["planner"] == planner], label, colour)
        for report in own:
            if report["planner"] == "policy":
                axis.axhline(report["summary"]["mean"], color=PLAYERS[2], linestyle="--", linewidth=1.4,
                             label="policy, imagines nothing")  # fmt: skip
        _frame(axis, f"imagined with {title}")
    first = figure.axes[0]
    first.set_ylabel("return", **STYLE)
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    save(path, figure)


def _line(axis: Axes, reports: list[Mapping[str, Any]], label: str, colour: str) -> None:
    reports.sort(key=lambda r: r["num_samples"])
    imagined = [r["summary"]["transitions_per_decision"] for r in reports]
    means = [r["summary"]["mean"] for r in reports]
    axis.plot(imagined, means, "o-", color=colour, linewidth=1.6, markersize=5, label=label)
    for x, report in zip(imagined, reports, strict=True):
        returns = [e["return"] for e in report["episodes"]]
        axis.plot([x] * len(returns), returns, ".", color=colour, markersize=3, alpha=0.45)


def _frame(axis: Axes, title: str) -> None:
    axis.set_xscale("log")
    axis.set_xlim(80, 4000)
    axis.set_xticks([100, 200, 400, 800, 1600, 3200])
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_ylim(0, MAXIMUM)
    axis.set_title(title, loc="left", fontweight="bold", **STYLE)
    axis.set_xlabel("transitions imagined per decision (horizon 25)", **STYLE)
    clean(axis)
