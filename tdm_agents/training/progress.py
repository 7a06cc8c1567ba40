"""Progress of training, shown on a console."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console

from tdm_agents.training.console_bar import ConsoleBar, time_left

_SMOOTHING = 0.98


class TrainingProgress(ConsoleBar):
    """A bar with the smoothed loss and the time left.

    Args:
        console: Where to draw.
        steps: Number of updates in all.
        done: Number of updates made before.
    """

    def __init__(self, console: Console, steps: int, done: int) -> None:
        super().__init__(console, "training", steps, done)
        self._first = done
        self._began = time.monotonic()
        self._loss: float | None = None

    def update(self, step: int, loss: float) -> None:
        """Show one more update."""
        self._loss = loss if self._loss is None else _SMOOTHING * self._loss + (1 - _SMOOTHING) * loss
        left = time_left(time.monotonic() - self._began, step - self._first, self._steps - step)
        status = f"loss {self._loss:.4f}"
        self._show(f"step {step}/{self._steps}  {status}  {left}", done=step, status=status, left=left)

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
