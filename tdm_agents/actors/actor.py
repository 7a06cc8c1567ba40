"""The one protocol of whoever plays: an actor decides for ``E`` environments in lock-step.

The loop that plays the episodes (of an evaluation or a collection) asks the actor only at decisions, holds
the actions between them and sums the rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Move:
    """An actor's answer at one decision of ``E`` environments.

    Attributes:
        actions: ``E`` actions in the environment's units; None where an episode is over.
        rows: The environments that were planned for (or a policy was asked about); the others follow a plan.
        milliseconds: Wall-clock time of that, for all of them together.
        transitions: Number of imagined transitions, of all of them together.
        non_finite: Number of candidates refused because their value was NaN or inf.
        imagined: ``[len(rows), h, n]``, what the plan expected; None where not asked for.
        value: ``[len(rows)]``, what the planner believed its plan is worth; None for a policy.
        late: Whether the plan was there after the agent's deadline.
        codes: ``[E, m]``, the actions as planners see them (in [-1, 1], or int64 choices counted from 0);
            None where the actor knows only the environment's units.
    """

    actions: list[Any]
    rows: list[int]
    milliseconds: float
    transitions: float = 0.0
    non_finite: float = 0.0
    imagined: npt.NDArray[np.float32] | None = None
    value: npt.NDArray[np.float32] | None = None
    late: bool = False
    codes: npt.NDArray[Any] | None = None


class Actor(Protocol):
    """A player of ``E`` environments from their first observations on."""

    @property
    def action_repeat(self) -> int | None:
        """Environment steps per decision; None where any number will do."""
        ...

    def act(self, observations: Sequence[Any], rewards: Sequence[float], active: Sequence[bool]) -> Move:
        """Decide for the environments that are ``active``.

        Args:
            observations: ``E`` observations of the environment's own space.
            rewards: ``E`` rewards, each the sum since the last decision; NaN at the first decision.
            active: ``E`` flags, False where an episode is over.

        Raises:
            ValueError: If no action can be found, or an observation is not of the space or not finite.
        """
        ...


@runtime_checkable
class Correctable(Protocol):
    """An actor that remembers, and so has to know where another action than its own was executed."""

    def correct(self, codes: npt.NDArray[Any]) -> None:
        """Take note that ``codes`` ``[E, m]`` are executed instead of the last answer."""
        ...

    def stand_aside(self, observations: Sequence[Any], rewards: Sequence[float]) -> None:
        """Take note of a decision in all environments that somebody else makes; :meth:`correct` follows."""
        ...


def steps_per_decision(actor: Actor) -> int:
    """Environment steps that an actor's actions are held; 1 where any number will do."""
    return actor.action_repeat or 1
