"""What a player of several environments answers, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Move:
    """One environment step's worth of play in ``E`` environments.

    Attributes:
        actions: ``E`` actions; None where an episode is over.
        decided: Environments that decided in this step.
        rows: Those of them for which there was planning (or a policy was asked); the others follow a plan.
        milliseconds: Wall-clock time of that, all of them together.
        transitions: Imagined transitions, all of them together.
        non_finite: Candidates refused because their value was NaN or inf.
        imagined: ``[len(rows), h, n]``, what the plan expected; None where not asked for.
        value: ``[len(rows)]``, what the planner believed its plan is worth; None for a policy.
    """

    actions: list[Any]
    decided: list[int]
    rows: list[int]
    milliseconds: float
    transitions: float = 0.0
    non_finite: float = 0.0
    imagined: npt.NDArray[np.float32] | None = None
    value: npt.NDArray[np.float32] | None = None


class Player(Protocol):
    """Plays ``E`` environments in lock-step from their first observation on."""

    def move(self, observations: Sequence[Any], rewards: Sequence[float], active: Sequence[bool]) -> Move:
        """Actions for the environments that are ``active``; ``rewards`` are NaN at the first step."""
        ...
