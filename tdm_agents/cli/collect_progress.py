"""The live table of a collection: episodes and returns by policy, rate, time left."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from tdm_agents.collection.workers import EpisodeDone


class Progress:
    """Counts of episodes and returns by policy.

    Args:
        counts: Numbers of episodes that are wanted, by policy.
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, counts: Mapping[str, int], *, clock: Callable[[], float]) -> None:
        self.total = sum(counts.values())
        self._counts = counts
        self._clock = clock
        self._begin = clock()
        self._done: Counter[str] = Counter()
        self._returns: defaultdict[str, float] = defaultdict(float)
        self._played = 0

    @property
    def done(self) -> int:
        """Number of episodes that are on disk."""
        return self._done.total()

    def add(self, done: EpisodeDone) -> None:
        """Take note of an episode."""
        self._done[done.policy] += 1
        self._returns[done.policy] += done.episode_return
        self._played += done.played

    def table(self) -> RenderableType:
        """Episodes and mean return by policy, the rate and the time left."""
        seconds = self._clock() - self._begin
        rate = self._played / seconds if seconds > 0 else 0.0
        left = f"{(self.total - self.done) / rate:.0f} s left" if self._played else "starting"
        table = Table()
        table.add_column("policy")
        table.add_column("episodes", justify="right")
        table.add_column("mean return", justify="right")
        for name, wanted in self._counts.items():
            done = self._done[name]
            mean = f"{self._returns[name] / done:.1f}" if done else "-"
            table.add_row(name, f"{done}/{wanted}", mean)
        return Group(f"{self.done} of {self.total} episodes, {60 * rate:.1f} per minute, {left}", table)

    @contextmanager
    def live(self, console: Console) -> Iterator[None]:
        """Show the table while the block runs; other output appears above it."""
        try:
            with Live(get_renderable=self.table, console=console, refresh_per_second=2):
                yield
        finally:
            if not console.is_terminal:
                console.line()  # where there is no terminal, Live does not end its last line
