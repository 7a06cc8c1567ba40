"""Progress of training, shown on a console."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_SMOOTHING = 0.98
_WAIT_SECONDS = 10.0


class TrainingProgress:
    """A bar with the smoothed loss and the time left; lines of text where the console is not a terminal.

    Args:
        console: Where to draw.
        steps: Number of updates in all.
        done: Number of updates made before.
    """

    def __init__(self, console: Console, steps: int, done: int) -> None:
        self._console = console
        self._steps = steps
        self._first = done
        self._began = time.monotonic()
        self._printed = self._began
        self._loss: float | None = None
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps, completed=done, loss="-", left="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, step: int, loss: float) -> None:
        """Show one more update."""
        self._loss = loss if self._loss is None else _SMOOTHING * self._loss + (1 - _SMOOTHING) * loss
        now = time.monotonic()
        left = duration((now - self._began) / (step - self._first) * (self._steps - step)) + " left"
        self._bar.update(self._task, completed=step, loss=f"{self._loss:.4f}", left=left)
        if not self._console.is_terminal and now - self._printed > _WAIT_SECONDS:
            self._printed = now
            self._console.print(f"step {step}/{self._steps}  loss {self._loss:.4f}  {left}")

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Print loss and median errors of an evaluation on a line; of several environments, their losses."""
        shown = [f"held-out loss {metrics['held_out/loss']:.3f}"]
        for name, value in metrics.items():
            kind, _, environment = name.removeprefix("held_out/").partition("/")
            if kind == "loss" and environment:
                shown.append(f"{environment} {value:.3f}")
            elif name.startswith("prediction/median@") and "/" not in environment:
                shown.append(f"median error {value:.3f} at horizon {name.partition('@')[2]}")
        self._console.print(f"step {step}  " + "  ".join(shown), highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds as ``[hours:]minutes:seconds``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
