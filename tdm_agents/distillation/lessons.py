"""What a student has been shown: transitions, and examples of what the teacher would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tdm_agents.online.replay import PlayedEpisode, Replay
from tdm_agents.protocols import Batch, ModelSpec

FOLDER = "lessons"


class Lessons:
    """Two replay memories: of transitions, real and imagined, and of examples.

    Args:
        folder: Folder of the run.
        spec: Of the student.
        capacity: Decisions of each.
        slack: Entries that a round adds at most.
        fresh: Whether to begin with nothing, whatever the folder holds.
        imitates: Whether the student learns from examples.

    Raises:
        CheckpointError: If the arrays there are not those of such a memory.

    Attributes:
        transitions: Episodes and imagined pieces of episodes, with the actions that were executed.
        examples: Episodes with the teacher's actions.
    """

    def __init__(
        self, folder: Path, spec: ModelSpec, *, capacity: int, slack: int, fresh: bool, imitates: bool
    ) -> None:
        def memory(name: str) -> Replay:
            return Replay(folder / FOLDER / name, spec, capacity=capacity, slack=slack, fresh=fresh)

        self.transitions = memory("transitions")
        self.examples = memory("examples")
        self._imitates = imitates

    def add(self, transitions: Sequence[PlayedEpisode], examples: Sequence[PlayedEpisode]) -> None:
        """Remember what a round showed."""
        self.transitions.add(transitions)
        self.examples.add(examples)

    def batch(self, rng: np.random.Generator, count: int, steps: int) -> Batch:
        """``count`` windows of ``steps`` entries; of a student that imitates, half of them are examples.

        An example is the first step of its window, and no transition.
        """
        if not self._imitates:
            return self.transitions.batch(rng, count, steps)
        shown = self.examples.batch(rng, count - count // 2, steps)
        first = torch.zeros_like(shown.valid)
        first[:, 0] = shown.valid[:, 0]
        shown = replace(
            shown,
            reward=torch.full_like(shown.reward, torch.nan),
            valid=first,
            acted=first & shown.acted,
            alive=first,
            example=first,
        )
        moved = self.transitions.batch(rng, max(count // 2, 1), steps)
        moved = replace(moved, example=torch.zeros_like(moved.valid))
        return Batch.joined([moved, shown])

    def record(self) -> dict[str, Any]:
        """What there is, as JSON; it is on disk when this returns."""
        return {"transitions": self.transitions.record(), "examples": self.examples.record()}

    def restore(self, record: Mapping[str, Any]) -> None:
        """Go back to what :meth:`record` described.

        Raises:
            CheckpointError: If something is not what it was.
        """
        self.transitions.restore(record["transitions"])
        self.examples.restore(record["examples"])
