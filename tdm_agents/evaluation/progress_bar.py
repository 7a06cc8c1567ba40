"""A live line for the terminal: step, return so far, milliseconds per decision, time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tdm_agents.evaluation.records import Tick
from tdm_agents.remarks import remarks


@contextmanager
def counting(total: int, console: Console, doing: str = "playing") -> Iterator[Callable[[str], None]]:
    """A live line that counts what is done side by side; call it with what has ended.

    Args:
        total: Number of what is to be done.
        console: Console to show it on.
        doing: What is done.
    """
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console) as progress:
        bar = progress.add_task("", total=total)
        yield lambda ended: progress.update(bar, advance=1, description=ended)


class ProgressBar:
    """A context manager that shows the :class:`Tick` of an evaluation; pass it as ``on_step``.

    Args:
        label: Who is playing.
        console: Console to show it on; None = that of :func:`tdm_agents.remarks.remarks`.
    """

    def __init__(self, label: str, console: Console | None = None) -> None:
        self._progress = Progress(
            BarColumn(bar_width=12),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console or remarks(),
        )
        self._label = label
        self._task = self._progress.add_task(label, total=None, status="starting")

    def __enter__(self) -> ProgressBar:
        self._progress.console.print(self._label)  # on a line of its own: both do not fit in 80 columns
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, tick: Tick) -> None:
        """Show the tick."""
        of = "" if tick.total is None else f"/{tick.total}"
        self._progress.update(
            self._task,
            completed=tick.steps,
            total=tick.total,
            status=(
                f"step {tick.steps}{of}, return {tick.mean_return:.1f}, "
                f"{tick.milliseconds_per_decision:.1f} ms per decision"
            ),
        )
