"""Deadlines: until when a decision has to be made, and what imagining is expected to cost until then."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""A clock that never goes back, in seconds."""

_MEMORY = 0.998
"""What a step still counts after the next one: an estimate rests on the last 500 steps or so."""
_SHOCK = 0.98
"""What a delay still counts after the next step: it is forgotten after some plans."""
_CLOSING = 0.9
"""What the time after a plan's last step still counts after the next plan."""


class Pace:
    """How long imagined steps take: a constant, and something per row; learned from what is measured.

    Both are fitted to the latest steps by least squares. Where all of them had the same number of rows, half
    of their time is taken for the constant.

    Attributes:
        delay: By how many seconds a step may take longer than expected, as some of the latest did, because
            another process had the core. Before a deadline that much time is kept in reserve.
        closing: Seconds that the latest plans took after their last step, at most. They are kept, too.
    """

    def __init__(self) -> None:
        self.delay = self.closing = 0.0
        self._count = self._rows = self._seconds = self._squares = self._products = 0.0

    def measured(self, rows: int, seconds: float) -> None:
        """Learn that a step of ``rows`` rows took ``seconds``."""
        known = self.expected(rows)
        self.delay = max(_SHOCK * self.delay, 0.0 if known is None else seconds - known)
        self._count = _MEMORY * self._count + 1.0
        self._rows = _MEMORY * self._rows + rows
        self._seconds = _MEMORY * self._seconds + seconds
        self._squares = _MEMORY * self._squares + rows * rows
        self._products = _MEMORY * self._products + rows * seconds

    def closed(self, seconds: float) -> None:
        """Learn that a plan was there ``seconds`` after its last step."""
        self.closing = max(_CLOSING * self.closing, seconds)

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
        stepped: When the last step was made; None before the first.
    """

    stepped: float | None = None

    def __init__(self, at: float, pace: Pace, clock: Clock = time.perf_counter) -> None:
        self.at = at
        self.pace = pace
        self.clock = clock
        self._seconds = at - clock()

    def again(self) -> Deadline:
        """A deadline as far from now as this one was when it was made, for the next decision."""
        return Deadline(self.clock() + self._seconds, self.pace, self.clock)

    def left(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self.at - self.clock()

    def spare(self) -> float:
        """Seconds until the deadline in which steps may be made; the rest is for a delay and the end."""
        return self.left() - self.pace.delay - self.pace.closing

    def measured(self, rows: int, began: float) -> None:
        """Let the pace learn from a step of ``rows`` rows that began at ``began`` and has ended now."""
        self.stepped = self.clock()
        self.pace.measured(rows, self.stepped - began)

    def met(self) -> float:
        """Take note that the plan is there; by how many seconds it is late (negative: too early)."""
        now = self.clock()
        if self.stepped is not None:
            self.pace.closed(now - self.stepped)
        return now - self.at

    def allows(self, rows: int, steps: int = 1) -> bool:
        """Whether ``steps`` imagined steps of ``rows`` rows are expected to be made in time."""
        return (self.pace.expected(rows) or 0.0) * steps < self.spare()
