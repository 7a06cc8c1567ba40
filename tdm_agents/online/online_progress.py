"""Progress of online training, shown on a console."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tdm_agents.training.progress import duration

_WAIT_SECONDS = 10.0


class OnlineProgress:
    """A bar with the last return and the time left; lines of text where the console is not a terminal.

    Args:
        console: Where to draw.
        steps: Environment steps in all.
        done: Environment steps made before.
    """

    def __init__(self, console: Console, steps: int, done: int) -> None:
        self._console = console
        self._steps = steps
        self._status = "-"
        self._printed = time.monotonic()
        self._planned: tuple[int, float] | None = None  # random steps are no measure of those to come
        self._bar = Progress(
            TextColumn("steps"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps, completed=done, status="-", left="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the bar as it is."""
        self._bar.stop()

    def learning(self, done: int) -> None:
        """From now on updates and planned decisions take turns."""
        if self._planned is None:
            self._planned = (done, time.monotonic())

    def moved(self, done: int) -> None:
        """Show how many environment steps have been made."""
        now, left = time.monotonic(), ""
        if self._planned is not None and done > self._planned[0]:
            pace = (now - self._planned[1]) / (done - self._planned[0])
            left = duration(max(0.0, pace * (self._steps - done))) + " left"
        self._bar.update(self._task, completed=done, status=self._status, left=left)
        self._line(f"step {done:,} of {self._steps:,}  {self._status}  {left}")

    def learned(self, updates: int, due: int) -> None:
        """Show how much has been learned from the random episodes."""
        status = f"{updates:,} of {due:,} updates with random episodes"
        self._bar.update(self._task, status=status)
        self._line(status)

    def _line(self, text: str) -> None:
        now = time.monotonic()
        if not self._console.is_terminal and now - self._printed > _WAIT_SECONDS:
            self._printed = now
            self._console.print(text, highlight=False)

    def ended(self, score: float) -> None:
        """Note the return of an episode."""
        self._status = f"return {score:.1f}"

    def evaluated(self, done: int, mean: float, scores: list[float], environment: str = "") -> None:
        """Print an evaluation on its own line, with the environment where there are several."""
        each = " ".join(f"{score:.1f}" for score in scores)
        of = f" of {environment}" if environment else ""
        self._console.print(
            f"step {done:,}  evaluation{of}: mean return {mean:.1f} ({each})", highlight=False
        )
