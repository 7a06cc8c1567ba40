"""Progress of online training, shown on a console."""

from __future__ import annotations

import time

from rich.console import Console

from tdm_agents.training.console_bar import ConsoleBar, time_left


class OnlineProgress(ConsoleBar):
    """A bar with the last return and the time left.

    Args:
        console: Where to draw.
        steps: Environment steps in all.
        done: Environment steps made before.
    """

    def __init__(self, console: Console, steps: int, done: int) -> None:
        super().__init__(console, "steps", steps, done, width=20)  # the status is long
        self._status = "-"
        self._planned: tuple[int, float] | None = None  # random steps are no measure of those to come

    def learning(self, done: int) -> None:
        """From now on updates and planned decisions take turns."""
        if self._planned is None:
            self._planned = (done, time.monotonic())

    def moved(self, done: int) -> None:
        """Show how many environment steps have been made."""
        left = ""
        if self._planned is not None:
            first, began = self._planned
            left = time_left(time.monotonic() - began, done - first, self._steps - done)
        line = f"step {done:,} of {self._steps:,}  {self._status}  {left}"
        self._show(line, done=done, status=self._status, left=left)

    def learned(self, updates: int, due: int) -> None:
        """Show how much has been learned from the random episodes."""
        status = f"{updates:,} of {due:,} updates with random episodes"
        self._show(status, status=status)

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
