"""The plot of ``deadlines.py``: what share of decisions is later than so many milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tdm_agents.plot_style import PLAYERS, REAL, STYLE, clean, save


def plot_delays(path: Path, rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Write a PNG (or whatever the path's suffix says).

    Args:
        path: Where to write.
        rows: Per contestant and deadline (in milliseconds, as text) a mapping with ``"delays"``.
    """
    figure = Figure(figsize=(2.8 * len(rows), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(rows), sharey=True, squeeze=False)[0]
    for axis, (name, row) in zip(axes, rows.items(), strict=True):
        for colour, (deadline, cell) in zip(PLAYERS[0:1] + PLAYERS[2:], row.items(), strict=False):
            delays = np.sort(np.asarray(cell["delays"], float))
            later = 1.0 - np.arange(len(delays)) / len(delays)  # share that is at least as late
            axis.step(delays, 100.0 * later, color=colour, linewidth=1.6, label=f"{deadline} ms")
        axis.axvline(0.0, color=REAL, linewidth=0.8)
        axis.set_yscale("log")
        axis.set_title(name, **STYLE)
        axis.set_xlabel("milliseconds after the deadline", **STYLE)
        clean(axis)
    axes[0].set_ylabel("% of decisions at least as late", **STYLE)
    axes[0].legend(frameon=False, fontsize=8, title="deadline", title_fontsize=8)
    save(path, figure)
