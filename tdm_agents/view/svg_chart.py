"""Small line charts as SVG: a few kilobytes, drawn by any browser, with gaps where nothing is known."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Placed = Callable[[Array, Array], tuple[Array, Array]]

_WIDTH, _HEIGHT = 300, 124
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 20, 20
_MOST_POINTS = 160


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chart.

    Attributes:
        x: ``[T]``, ascending.
        y: ``[T]``; NaN leaves a gap.
        color: A colour of CSS.
        width: Pixels.
        down_to: ``[T]``, where the area to another line is filled; None fills nothing.
    """

    x: Array
    y: Array
    color: str
    width: float = 1.4
    down_to: Array | None = None


def svg_chart(title: str, lines: Sequence[Line], unit: str = "") -> str:
    """A chart of lines; an empty frame where none has two points.

    Args:
        title: What is shown.
        lines: Drawn in order, the last on top.
        unit: Of the x axis.
    """
    known = [line for line in map(_thinned, lines) if np.isfinite(line.y).any()]
    body = ""
    if known:
        left, right = _range(np.concatenate([line.x for line in known]))
        tops = [line.y for line in known] + [line.down_to for line in known if line.down_to is not None]
        low, high = _range(np.concatenate(tops))

        def at(x: Array, y: Array) -> tuple[Array, Array]:
            across = _LEFT + (x - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT)
            return across, _TOP + (high - y) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

        body = "".join(_path(line, at) for line in known)
        ends = ((low, _HEIGHT - _BOTTOM), (high, _TOP + 8))
        body += "".join(_text(_LEFT - 4, y, _short(value), "end") for value, y in ends)
        body += _text(_LEFT, _HEIGHT - 6, _short(left), "start")
        body += _text(_WIDTH - _RIGHT, _HEIGHT - 6, f"{_short(right)} {unit}".strip(), "end")
    frame = (
        f'<path d="M{_LEFT} {_TOP}V{_HEIGHT - _BOTTOM}H{_WIDTH - _RIGHT}" fill="none" stroke="#94a3b8"/>'
        + _text(_WIDTH / 2, 12, title, "middle", "#0f172a")
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="100%" role="img" '
        f'aria-label="{html.escape(title, quote=True)}">{frame}{body}</svg>'
    )


def _path(line: Line, at: Placed) -> str:
    across, down = at(line.x, line.y)
    drawn, moves = np.isfinite(across) & np.isfinite(down), []
    for index, (x, y) in enumerate(zip(across, down, strict=True)):
        if drawn[index]:
            moves.append(f"{'L' if index and drawn[index - 1] else 'M'}{x:.1f} {y:.1f}")
    area = ""
    if line.down_to is not None:
        _, under = at(line.x, line.down_to)
        both = drawn & np.isfinite(under)
        ring = [*zip(across[both], down[both], strict=True)]
        ring += [*zip(across[both], under[both], strict=True)][::-1]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in ring)
        area = f'<polygon points="{points}" fill="{line.color}" fill-opacity="0.25"/>'
    way = "".join(moves)
    return f'{area}<path d="{way}" fill="none" stroke="{line.color}" stroke-width="{line.width}"/>'


def _text(x: float, y: float, text: str, anchor: str, color: str = "#64748b") -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="11" fill="{color}" text-anchor="{anchor}">'
        f"{html.escape(text)}</text>"
    )


def _short(value: float) -> str:
    """A number of three digits or more, and zero where it is next to nothing."""
    if abs(value) >= 100.0:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else "0"


def _range(values: Array) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    if high > low:
        return low, high
    about = max(abs(low), 1.0) * 0.5
    return low - about, high + about


def _thinned(line: Line) -> Line:
    every = -(-len(line.x) // _MOST_POINTS)
    if every <= 1:
        return line
    under = None if line.down_to is None else line.down_to[::every]
    return Line(line.x[::every], line.y[::every], line.color, line.width, under)
