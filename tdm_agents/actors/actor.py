"""The one protocol of whoever plays: an actor decides for ``E`` environments in lock-step.

Whoever plays the episodes (an evaluation, a collection) asks at decisions only, holds the actions between
them and sums the rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Move:
    """What an actor answers at one decision of ``E`` environments.

    Attributes:
        actions: ``E`` actions in the environment's units; None where an episode is over.
        rows: The environments for which there was planning (or a policy was asked); the others follow a plan.
        milliseconds: Wall-clock time of that, all of them together.
        transitions: Imagined transitions, all of them together.
        non_finite: Candidates refused because their value was NaN or inf.
        imagined: ``[len(rows), h, n]``, what the plan expected; None where not asked for.
        value: ``[len(rows)]``, what the planner believed its plan is worth; None for a policy.
        codes: ``[E, m]``, the actions as planners see them (in [-1, 1], or int64 choices counted from 0);
            None where the actor acts in the environment's units alone.
    """

    actions: list[Any]
    rows: list[int]
    milliseconds: float
    transitions: float = 0.0
    non_finite: float = 0.0
    imagined: npt.NDArray[np.float32] | None = None
    value: npt.NDArray[np.float32] | None = None
    codes: npt.NDArray[Any] | None = None


class Actor(Protocol):
    """Plays ``E`` environments from their first observations on."""

    @property
    def action_repeat(self) -> int | None:
        """Environment steps of one decision; None where any number will do."""
        ...

    def act(self, observations: Sequence[Any], rewards: Sequence[float], active: Sequence[bool]) -> Move:
        """Decide for the environments that are ``active``.

        Args:
            observations: ``E`` of the environment's own space.
            rewards: ``E``, each the sum since the last decision; NaN at the first.
            active: False where an episode is over.

        Raises:
            ValueError: If no action can be found, or an observation is not of the space or not finite.
        """
        ...


@runtime_checkable
class Correctable(Protocol):
    """An actor that has to know what was executed where that was not its own action, because it remembers."""

    def correct(self, codes: npt.NDArray[Any]) -> None:
        """Take note that ``codes`` ``[E, m]`` are executed instead of what was just answered."""
        ...

    def stand_aside(self, observations: Sequence[Any], rewards: Sequence[float]) -> None:
        """Take note of a decision of all environments that somebody else makes; :meth:`correct` follows."""
        ...


def steps_per_decision(actor: Actor) -> int:
    """Environment steps that an actor's actions are held; 1 where any number will do."""
    return actor.action_repeat or 1
