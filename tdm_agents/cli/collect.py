"""``tdm collect``: play episodes and write a Minari data set."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from tdm_agents.cli.checks import at_least, output_folder
from tdm_agents.cli.evaluate import parse_settings
from tdm_agents.data.collection import check, collect
from tdm_agents.data.play import make_env
from tdm_agents.data.policies import BehaviourPolicy, PlannerPolicy, RandomPolicy
from tdm_agents.data.workers import EpisodeDone


@dataclass(frozen=True)
class Collect:
    """Collect episodes of correlated random actions and of a disturbed planner into a Minari data set.

    Interrupted, the same command goes on where it stopped.
    """

    out: Path
    """Folder of the data set; it appears in OUT/data when all episodes are done."""
    env_id: str = "dm_control/cartpole-swingup-v0"
    """Gymnasium id; "module:ID" imports what registers it."""
    random_episodes: int = 200
    """Episodes of correlated noise, its correlation and scale drawn for each."""
    planner_episodes: int = 200
    """Episodes of the planner on the true dynamics, with noise and bursts of random actions."""
    planner: str = "mppi"
    """The planner's name."""
    planner_settings: dict[str, str] = field(default_factory=dict)
    """The planner's settings, as pairs of name and value: `num-samples 64 horizon 25`."""
    action_repeat: int = 4
    """Environment steps that each action is held."""
    max_steps: int | None = None
    """Environment steps after which an episode is cut off; needed where the environment has no end."""
    workers: int = 1
    """Processes, of one thread each; not more than there are idle cores."""
    seed: int = 0
    """Every episode is a function of it."""


def run(args: Collect) -> None:
    """Collect, with a live table of the progress.

    Raises:
        DataError: If the folder holds something else.
        ValueError: If a setting makes no sense, or the folder cannot be written to.
        SystemExit: On Ctrl-C, with code 130, after saying how to go on.
    """
    _check(args)
    console = Console()
    mix: list[tuple[BehaviourPolicy, int]] = []
    if args.random_episodes:
        mix.append((RandomPolicy(), args.random_episodes))
    if args.planner_episodes:
        mix.append(
            (PlannerPolicy(args.planner, parse_settings(args.planner_settings)), args.planner_episodes)
        )
    settings: dict[str, Any] = {
        "action_repeat": args.action_repeat,
        "seed": args.seed,
        "workers": args.workers,
        "max_steps": args.max_steps,
    }
    # all that can be wrong is found before the table is drawn
    check(args.env_id, mix, args.out, **settings)
    make_env(args.env_id).close()
    progress = Progress({policy.name: count for policy, count in mix}, clock=time.monotonic)
    try:
        with _live(progress, console):
            data = collect(args.env_id, mix, args.out, **settings, watch=progress.add)
    except KeyboardInterrupt:
        console.print(
            f"Stopped. {progress.done} of {progress.total} episodes are kept in {args.out}; "
            "the same command goes on from there."
        )
        raise SystemExit(130) from None
    console.print(f"Wrote {data}" if progress.done else f"{data} is complete already; nothing to do.")


def _check(args: Collect) -> None:
    at_least(0, random_episodes=args.random_episodes, planner_episodes=args.planner_episodes, seed=args.seed)
    if args.random_episodes + args.planner_episodes == 0:
        raise ValueError(
            "--random-episodes and --planner-episodes are both 0; expected at least 1 episode of either"
        )
    at_least(1, action_repeat=args.action_repeat, max_steps=args.max_steps, workers=args.workers)
    if not (args.out / "data").is_dir():  # a finished collection is only read
        output_folder(args.out)


@contextmanager
def _live(progress: Progress, console: Console) -> Iterator[None]:
    try:
        with Live(get_renderable=progress.table, console=console, refresh_per_second=2):
            yield
    finally:
        if not console.is_terminal:
            console.line()  # there, Live does not end its last line


class Progress:
    """Counts episodes and returns by policy.

    Args:
        counts: Episodes that are wanted, by policy.
        clock: Seconds, monotonic.
    """

    def __init__(self, counts: dict[str, int], *, clock: Callable[[], float]) -> None:
        self.total = sum(counts.values())
        self._counts = counts
        self._clock = clock
        self._begin = clock()
        self._returns: dict[str, list[float]] = defaultdict(list)
        self._played = 0

    @property
    def done(self) -> int:
        """Episodes that are on disk."""
        return sum(map(len, self._returns.values()))

    def add(self, done: EpisodeDone) -> None:
        """Take note of an episode."""
        self._returns[done.policy].append(done.episode_return)
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
            returns = self._returns[name]
            mean = f"{sum(returns) / len(returns):.1f}" if returns else "-"
            table.add_row(name, f"{len(returns)}/{wanted}", mean)
        return Group(f"{self.done} of {self.total} episodes, {60 * rate:.1f} a minute, {left}", table)
