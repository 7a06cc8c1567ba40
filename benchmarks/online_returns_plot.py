"""The plot of ``online_returns.py``: return over environment steps, one panel per task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tdm_agents.plot_style import PLAYERS, REAL, STYLE, clean, save

LOOKS = {"tdmpc2": (PLAYERS[0], "TD-MPC2"), "sac": (PLAYERS[3], "SAC"), "ppo": (PLAYERS[4], "PPO")}


def plot_curves(path: Path, tasks: Mapping[str, Any]) -> None:
    """Write a PNG (or whatever the path's suffix says).

    Lines are interquartile means over the episodes of all seeds, bands their 95 % intervals, thin lines the
    means of each seed. A dashed line is what is published for TD-MPC2 after 100,000 steps.

    Args:
        path: Where to write.
        tasks: The report's tasks.
    """
    figure = Figure(figsize=(max(3.6 * len(tasks) + 0.6, 6.4), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(tasks), squeeze=False)[0]
    for axis, (name, task) in zip(axes, tasks.items(), strict=True):
        for learner, found in task["learners"].items():
            _line(axis, found, *LOOKS[learner])
        if (published := task["settings"]["published"]) is not None:
            axis.axhline(published, color=REAL, linestyle="--", linewidth=1.0,
                         label="TD-MPC2, published at 100,000 steps")  # fmt: skip
        axis.set_title(name, **STYLE)
        axis.set_xlabel("environment steps", **STYLE)
        axis.set_ylim(bottom=0.0)
        clean(axis)
    axes[0].set_ylabel("return of 5 episodes per seed", **STYLE)
    shown = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        shown.values(), shown.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=8
    )
    save(path, figure)


def _line(axis: Axes, found: Mapping[str, Any], colour: str, label: str) -> None:
    rows = found["summary"]
    steps = [row["env_steps"] for row in rows]
    axis.plot(steps, [row["iqm"]["value"] for row in rows], "o-", color=colour, markersize=4, label=label)
    low, high = ([row["iqm"][end] for row in rows] for end in ("low", "high"))
    axis.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    for run in found["runs"].values():
        axis.plot(
            [r["env_steps"] for r in run], [r["mean_return"] for r in run], color=colour, alpha=0.35, lw=0.8
        )
