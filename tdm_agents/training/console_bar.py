"""A progress bar that becomes lines of text where the console is not a terminal."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_WAIT_SECONDS = 10.0


class ConsoleBar:
    """A bar of steps with a text and the time left, shown inside a ``with`` block.

    Args:
        console: Where to draw.
        name: What takes steps.
        steps: Number of steps in all.
        done: Number of steps made before.
        width: Width of the bar in characters.
    """

    def __init__(self, console: Console, name: str, steps: int, done: int, *, width: int = 40) -> None:
        self._console = console
        self._steps = steps
        self._printed = time.monotonic()
        self._bar = Progress(
            TextColumn(name),
            BarColumn(bar_width=width),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps, completed=done, status="", left="")

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

    def _show(self, line: str, *, status: str, done: int | None = None, left: str = "") -> None:
        """Move the bar, or print the line if the last one is some seconds old."""
        self._bar.update(self._task, completed=done, status=status, left=left)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._printed > _WAIT_SECONDS:
            self._printed = now
            self._console.print(line, highlight=False)


def time_left(seconds: float, made: int, steps: int) -> str:
    """What is left of ``steps`` more steps if ``made`` of them took so many seconds; "" before the first."""
    return duration(max(0.0, seconds / made * steps)) + " left" if made > 0 else ""


def duration(seconds: float) -> str:
    """Seconds as ``[hours:]minutes:seconds``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
