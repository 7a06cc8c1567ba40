"""Samplers of windows of the trajectories, as a pure function of a seed and an index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tdm_agents.data.trajectories import IntArray, Trajectories
from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Batch, Rows


class WindowSampler:
    """Random windows for training.

    ``batch(index)`` depends on the seed and the index alone, so a resumed run reads exactly what an
    uninterrupted one would have read, without any saved state. A window starts at any step that has at least
    one successor in its episode, all equally likely. Windows may run past the end of their episode, so the
    last step of a long one is read about as often as any other: terminations need no weight of their own.

    Args:
        trajectories: Episodes to read.
        steps: ``T``, at least 2.
        batch_size: ``B``.
        seed: Seed of the draws, at least 0.

    Raises:
        ValueError: If a setting makes no sense, or no episode has two steps.
    """

    def __init__(self, trajectories: Trajectories, *, steps: int, batch_size: int, seed: int) -> None:
        if steps < 2 or batch_size < 1 or seed < 0:
            raise WrongValueError(
                f"steps={steps}, batch_size={batch_size}, seed={seed}; expected at least 2, 1 and 0"
            )
        self.trajectories = trajectories
        self.steps = steps
        self.batch_size = batch_size
        self.seed = seed
        self._starts = _Starts(trajectories, steps=2)

    def batch(self, index: int, *, part: int = 0, parts: int = 1) -> Batch:
        """The batch of training step ``index``; ``[B, T, ...]``, short windows padded on the right.

        Args:
            index: The step.
            part: Which micro-batch, from 0.
            parts: Into how many the batch is divided; only one's windows are read.
        """
        rows = Rows(part, parts, self.batch_size) if parts > 1 else None
        return self.draw(np.random.default_rng([self.seed, index]), self.batch_size, rows)

    def draw(self, rng: np.random.Generator, count: int, rows: Rows | None = None) -> Batch:
        """``count`` windows, drawn with ``rng``; only ``rows`` of them where given."""
        chosen = rng.integers(self._starts.total, size=count)
        if rows is None:
            return self.trajectories.windows(*self._starts.locate(chosen), self.steps)
        batch = self.trajectories.windows(*self._starts.locate(rows.take(chosen)), self.steps)
        return replace(batch, rows=rows)


def sequential(trajectories: Trajectories, *, steps: int, batch_size: int) -> Iterator[Batch]:
    """Batches with every transition of every episode exactly once, for evaluation.

    Neighbouring windows share one step, so that no transition between them is lost.

    Args:
        trajectories: Episodes to read.
        steps: ``T``, at least 2.
        batch_size: ``B``; the last batch may have fewer rows.

    Raises:
        ValueError: If ``steps`` is below 2 or ``batch_size`` below 1.
    """
    if steps < 2 or batch_size < 1:
        raise WrongValueError(f"steps={steps}, batch_size={batch_size}; expected at least 2 and 1")
    transitions = trajectories.episodes[:, 2] - 1
    count = -(-transitions // (steps - 1))  # windows of each episode
    episode = np.repeat(np.arange(len(count)), count)
    start = (np.arange(len(episode)) - np.repeat(np.cumsum(count) - count, count)) * (steps - 1)
    for first in range(0, len(episode), batch_size):
        rows = slice(first, first + batch_size)
        yield trajectories.windows(episode[rows], start[rows], steps)


def starts(trajectories: Trajectories, *, count: int, steps: int, seed: int) -> Batch:
    """Distinct windows without padding, for the error of ``N``-step predictions.

    Args:
        trajectories: Episodes to read.
        count: ``B``.
        steps: ``T``, the steps of history plus ``N``.
        seed: Seed of the choice.

    Raises:
        ValueError: If the episodes hold fewer than ``count`` such windows.
    """
    available = _Starts(trajectories, steps=steps)
    if count > available.total:
        raise WrongValueError(
            f"{count} windows of {steps} steps were asked for, {available.total} exist in "
            f"{trajectories.num_episodes} episodes; ask for fewer or shorter ones, or hold out more episodes"
        )
    chosen = np.random.default_rng(seed).choice(available.total, size=count, replace=False)
    return trajectories.windows(*available.locate(np.sort(chosen)), steps)


class _Starts:
    """All starts with at least ``steps`` steps left in their episode, numbered."""

    def __init__(self, trajectories: Trajectories, *, steps: int) -> None:
        self._end = np.cumsum(np.maximum(trajectories.episodes[:, 2] - steps + 1, 0))
        self.total = int(self._end[-1])
        if not self.total:
            longest = int(trajectories.episodes[:, 2].max())
            raise WrongValueError(
                f"no episode has {steps} steps (the longest has {longest}); use shorter windows"
            )

    def locate(self, number: IntArray) -> tuple[IntArray, IntArray]:
        episode = np.searchsorted(self._end, number, side="right")
        before = np.where(episode > 0, self._end[episode - 1], 0)
        return episode, number - before
