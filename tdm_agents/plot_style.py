"""The look that all plots share: colours, axes, files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tdm_agents.storage import write_bytes

REAL = "#3a3f47"
IMAGINED = "#e4572e"
PLANNED = "#2e86ab"
PLAYERS = ("#e4572e", "#3a3f47", "#a0a7b4", "#2e86ab", "#76b041", "#8e5aa8", "#d9a400", "#0b8f7f")
STYLE: dict[str, Any] = {"fontsize": 9, "color": REAL}


def save(path: Path, figure: Figure) -> None:
    """Write a figure in the format that the path's suffix names, atomically."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix[1:] or "png", dpi=144)
    write_bytes(path, drawn.getvalue())


def clean(axis: Axes) -> None:
    """The look that all plots share: no box, small grey ticks, a faint grid."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8, colors=REAL)
    axis.grid(alpha=0.2, linewidth=0.6)
