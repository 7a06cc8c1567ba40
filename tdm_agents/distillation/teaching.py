"""Episodes in which a teacher says what it would do, whoever acts (DAgger, arXiv:1011.0686)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tdm_agents.actors.actor import Actor, Correctable, Move
from tdm_agents.spaces import ActionCodec, DiscreteActionCodec


class Lesson:
    """An actor that asks the teacher at every decision and executes its action, or the student's.

    Both are told what was executed, where they remember it.

    Args:
        teacher: The teacher.
        student: The student; None executes the teacher's actions alone.
        codec: Of the environment's actions.
        share: Probability that an environment executes the teacher's action in a decision.
        rng: Source of that choice.
        asked: Called after the teacher has decided.

    Attributes:
        shown: What the teacher would do, ``[E, m]`` as planners see actions, one entry per decision.
    """

    def __init__(
        self,
        teacher: Actor,
        student: Actor | None,
        codec: ActionCodec | DiscreteActionCodec,
        *,
        share: float,
        rng: np.random.Generator,
        asked: Callable[[], None],
    ) -> None:
        self._teacher, self._student, self._codec = teacher, student, codec
        self._share, self._rng, self._asked = share, rng, asked
        self.action_repeat = teacher.action_repeat
        self.shown: list[npt.NDArray[Any]] = []

    def act(self, observations: Sequence[Any], rewards: Sequence[float], active: Sequence[bool]) -> Move:
        """See :class:`tdm_agents.actors.actor.Actor`."""
        move = self._teacher.act(observations, rewards, active)
        codes = self._codes(move)
        self.shown.append(codes)
        self._asked()
        if self._student is not None:
            own = self._codes(self._student.act(observations, rewards, active))
            taught = self._rng.random(len(codes)) < self._share
            codes = np.where(taught[:, None], codes, own)
        for actor in (self._teacher, self._student):
            if isinstance(actor, Correctable):
                actor.correct(codes)
        played = self._codec.decode(codes)
        actions = [a if on else None for a, on in zip(played, active, strict=True)]
        return Move(actions, move.rows, move.milliseconds, codes=codes)

    def _codes(self, move: Move) -> npt.NDArray[Any]:
        if move.codes is not None:
            return move.codes
        given = next(a for a in move.actions if a is not None)  # environments that are over have none
        return self._codec.encode(np.stack([given if a is None else a for a in move.actions]))
