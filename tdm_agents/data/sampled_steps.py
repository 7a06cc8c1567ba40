"""Sampled steps: a bounded number of recorded ones, spread evenly over all episodes, read by column.

Fitting before training (of ranges of bins, for example) needs a good sample of the data, not all of them.
Memory does not grow with the data, which stay memory-mapped.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tdm_agents.data.trajectories import IntArray, Trajectories
from tdm_agents.spaces import FloatArray

MOST = 2**21
"""Largest number of sampled steps: a thousandth of them is still two thousand."""


class SampledSteps:
    """Steps of some episodes: all of them, or ``most`` where there are more.

    Where there are more, they are cut into ``most`` equal stretches, and one step is drawn from each.

    Args:
        trajectories: The episodes.
        with_next: Whether only steps with a successor in their episode count, so that changes can be read.
        most: Largest number of steps.
        seed: Seed of the draws.
    """

    def __init__(
        self, trajectories: Trajectories, *, with_next: bool = False, most: int = MOST, seed: int = 0
    ) -> None:
        part, first, steps = trajectories.episodes.T
        counts = np.maximum(steps - with_next, 0)
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        if total <= most:
            number = np.arange(total)
        else:
            drawn = np.random.default_rng(seed).random(most)
            number = ((np.arange(most) + drawn) * (total / most)).astype(np.int64)
        episode = np.searchsorted(ends, number, side="right")
        number += (first - ends + counts)[episode]  # the row in the episode's part
        self._count = len(number)
        self._parts: list[tuple[npt.NDArray[np.float32], IntArray | slice, IntArray]] = []
        of_part = part[episode] if len(trajectories.parts) > 1 else None
        for index, source in enumerate(trajectories.parts):
            place = slice(None) if of_part is None else np.flatnonzero(of_part == index)
            self._parts.append((source.observation, place, number[place]))
        self._columns = trajectories.parts[0].observation.shape[1]

    def __len__(self) -> int:
        return self._count

    def observations(self) -> Iterator[FloatArray]:
        """Every observation scalar in turn, ``[S]`` each."""
        for column in range(self._columns):
            yield self._read(column, 0)

    def changes(self) -> Iterator[FloatArray]:
        """Every observation scalar's change to the next step, ``[S]`` each; needs ``with_next``."""
        for column in range(self._columns):
            values = self._read(column, 1)
            values -= self._read(column, 0)
            yield values

    def _read(self, column: int, ahead: int) -> FloatArray:
        values = np.empty(self._count, np.float32)
        for source, place, row in self._parts:
            values[place] = source[ahead:, column][row]
        return values
