"""Plot of data sets: returns (as in figure 8 of Schubert et al. 2023), actions and ranges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tdm_agents.data.summary import Ranges, Summary
from tdm_agents.errors import WrongValueError
from tdm_agents.plot_style import PLAYERS, REAL, clean, save

BINS = 30
NAMED = 40
"""The most scalars whose names fit below an axis; more are numbered."""
LINEAR = 10.0
"""The largest observation up to which their axis is linear: a logarithmic one would have few ticks."""
STYLE: dict[str, Any] = {"fontsize": 9, "color": REAL}


def plot_summaries(path: Path, summaries: Sequence[Summary], *, title: str = "") -> None:
    """Write a PNG (or whatever the path's suffix says), atomically.

    Above, a histogram of the returns of all episodes by policy, and the share of actions at their bounds by
    data set. Below, the ranges of observations and actions, scalar by scalar, data sets side by side.

    Args:
        path: Where to write.
        summaries: At least one.
        title: Title of the figure.

    Raises:
        ValueError: If there is none.
    """
    if not summaries:
        raise WrongValueError("no data sets to draw; expected at least one")
    figure = Figure(figsize=(10.0, 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11, color=REAL, fontweight="bold")
    above, below = figure.subplots(2, 2, width_ratios=(3, 2))
    _returns(above[0], summaries)
    _at_bounds(above[1], summaries)
    _ranges(below[0], "observation", [summary.observation for summary in summaries])
    if max(np.abs([s.observation.low, s.observation.high]).max() for s in summaries) > LINEAR:
        below[0].set_yscale("symlog")  # positions, angles and velocities side by side
    _ranges(below[1], "action", [summary.action for summary in summaries])
    handles, labels = below[0].get_legend_handles_labels()
    which = f"below: {len(summaries)} data sets side by side; " if len(summaries) > 1 else ""
    figure.legend(
        handles,
        [f"{which}{labels[0]}", *labels[1:]],
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=8,
    )
    for axis in (*above, *below):
        clean(axis)
    save(path, figure)


def _returns(axis: Axes, summaries: Sequence[Summary]) -> None:
    everything = np.concatenate([summary.all_returns for summary in summaries])
    edges = np.histogram_bin_edges(everything, BINS)
    policies = list(dict.fromkeys(policy for summary in summaries for policy in summary.returns))
    axis.hist(
        [np.concatenate([s.returns.get(policy, np.empty(0)) for s in summaries]) for policy in policies],
        bins=list(edges),
        stacked=True,
        color=[PLAYERS[i % len(PLAYERS)] for i in range(len(policies))],
        label=policies,
    )
    axis.set_title(f"Returns of {len(everything):,} episodes", loc="left", **STYLE)
    axis.set_xlabel("return (sum of rewards)", **STYLE)
    axis.set_ylabel("episodes", **STYLE)
    axis.legend(frameon=False, fontsize=8)


def _ranges(axis: Axes, name: str, several: Sequence[Ranges]) -> None:
    low, high, mean, std = (
        np.concatenate([getattr(ranges, what) for ranges in several])
        for what in ("low", "high", "mean", "std")
    )
    # data sets share the width of each scalar, however many scalars each of them has
    beside = (np.arange(len(several)) + 0.5) / len(several) - 0.5
    at = np.concatenate(
        [np.arange(len(ranges.low)) + 0.7 * b for ranges, b in zip(several, beside, strict=True)]
    )
    thin = 1 / len(several) ** 0.5
    axis.vlines(at, low, high, color=PLAYERS[2], linewidth=2 * thin, label="lowest to highest")
    axis.errorbar(at, mean, std, fmt="o", color=PLAYERS[0], markersize=2.5 * thin, elinewidth=1.5 * thin,
                  label="mean and standard deviation")  # fmt: skip
    axis.set_title(f"Ranges of {name}s", loc="left", **STYLE)
    names = several[0].names
    if len(names) > NAMED or any(ranges.names != names for ranges in several):
        axis.set_xlabel(f"{name} scalar", **STYLE)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        return
    axis.set_xticks(range(len(names)), names, fontsize=7)
    if not all(name.isdigit() for name in names):
        axis.tick_params("x", rotation=90)
    else:
        axis.set_xlabel(f"{name} scalar", **STYLE)


def _at_bounds(axis: Axes, summaries: Sequence[Summary]) -> None:
    shares = [100 * float(s.at_bounds.mean()) for s in summaries if s.at_bounds is not None]
    if len(summaries) == 1 and summaries[0].at_bounds is not None:
        axis.bar(np.arange(len(summaries[0].at_bounds)), 100 * summaries[0].at_bounds, color=PLAYERS[3])
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel("action scalar", **STYLE)
        axis.set_ylabel("%", **STYLE)
    elif shares:
        axis.hist(shares, bins=BINS, range=(0, 100), color=PLAYERS[3])
        axis.set_xlabel("%", **STYLE)
        axis.set_ylabel("data sets", **STYLE)
    else:
        axis.text(0.5, 0.5, "actions without bounds", transform=axis.transAxes, ha="center", **STYLE)
    axis.set_title("Actions at a bound", loc="left", **STYLE)
