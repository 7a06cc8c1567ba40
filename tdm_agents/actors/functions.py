"""Actors that imagine nothing and know no time step: any function, and uniformly random actions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces

from tdm_agents.actors.actor import Move
from tdm_agents.errors import WrongValueError

Policy = Callable[[Any], Any]
"""A function from an observation of the environment's space to an action of its space."""


@dataclass(frozen=True, slots=True)
class FunctionActor:
    """A plain function as an actor, called once per environment and decision."""

    policy: Policy
    action_repeat: int | None = None

    def act(self, observations: Sequence[Any], rewards: Sequence[float], active: Sequence[bool]) -> Move:
        """See :class:`tdm_agents.actors.actor.Actor`."""
        began = time.perf_counter()
        actions = [self.policy(o) if a else None for o, a in zip(observations, active, strict=True)]
        milliseconds = 1e3 * (time.perf_counter() - began)
        return Move(actions, [i for i, a in enumerate(active) if a], milliseconds)


@dataclass(frozen=True, slots=True)
class UniformActions:
    """Uniform actions, independent of each other: the baseline below everything.

    Attributes:
        space: The environment's action space: a bounded ``Box``, ``Discrete`` or ``MultiDiscrete``.
        seed: Seed of the actions; the same seed gives the same actions.

    Raises:
        ValueError: If the space is of another kind.
    """

    space: spaces.Space[Any]
    seed: int = 0
    _rng: np.random.Generator = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        bounded = isinstance(self.space, spaces.Box) and self.space.is_bounded()
        if not bounded and not isinstance(self.space, spaces.Discrete | spaces.MultiDiscrete):
            raise WrongValueError(
                f"action_space {self.space} is not a bounded Box, Discrete or MultiDiscrete; draw from your "
                "own policy"
            )
        object.__setattr__(self, "_rng", np.random.default_rng(self.seed))

    def __call__(self, observation: Any) -> Any:
        """A uniform action, whatever the observation."""
        space = self.space
        if isinstance(space, spaces.Discrete):
            return space.start + self._rng.integers(space.n)
        if isinstance(space, spaces.MultiDiscrete):
            return (space.start + self._rng.integers(space.nvec)).astype(space.dtype)
        assert isinstance(space, spaces.Box)
        if np.dtype(space.dtype).kind in "biu":
            return self._rng.integers(space.low, space.high, dtype=space.dtype, endpoint=True)
        drawn = np.asarray(self._rng.uniform(space.low, space.high)).astype(space.dtype)
        return np.clip(drawn, space.low, space.high)
