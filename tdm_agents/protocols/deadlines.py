"""Deadlines: until when a decision has to be made, and what imagining is expected to cost until then."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""A clock that never goes back, in seconds."""

_MEMORY = 0.998
"""What a step still counts after the next one: an estimate rests on the last 500 steps or so."""


class Pace:
    """How long imagined steps take: a constant, and something per row; learned from what is measured.

    Both are fitted to the latest steps by least squares. Where all of them had the same number of rows, half
    of their time is taken for the constant.
    """

    def __init__(self) -> None:
        self._count = self._rows = self._seconds = self._squares = self._products = 0.0

    def measured(self, rows: int, seconds: float) -> None:
        """Learn that a step of ``rows`` rows took ``seconds``."""
        self._count = _MEMORY * self._count + 1.0
        self._rows = _MEMORY * self._rows + rows
        self._seconds = _MEMORY * self._seconds + seconds
        self._squares = _MEMORY * self._squares + rows * rows
        self._products = _MEMORY * self._products + rows * seconds

    def expected(self, rows: int) -> float | None:
        """Seconds that a step of ``rows`` rows will take; None where nothing was measured."""
        if not self._count:
            return None
        mean_rows, mean_seconds = self._rows / self._count, self._seconds / self._count
        variance = self._squares / self._count - mean_rows**2
        most = mean_seconds / mean_rows  # with which a step of no rows would take no time
        slope = 0.5 * most
        if variance > 1e-6 * mean_rows**2:
            slope = (self._products / self._count - mean_rows * mean_seconds) / variance
        return mean_seconds + min(max(slope, 0.0), most) * (rows - mean_rows)


class Deadline:
    """The end of a decision's time.

    Attributes:
        at: When the decision has to be there, by ``clock``.
        pace: What imagined steps cost; it learns from the steps that are made before this deadline.
        clock: The clock.
    """

    def __init__(self, at: float, pace: Pace, clock: Clock = time.perf_counter) -> None:
        self.at = at
        self.pace = pace
        self.clock = clock

    def left(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self.at - self.clock()

    def allows(self, rows: int, steps: int = 1) -> bool:
        """Whether ``steps`` imagined steps of ``rows`` rows are expected to be made in time."""
        return (self.pace.expected(rows) or 0.0) * steps < self.left()
