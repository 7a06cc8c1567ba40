"""Random actions that are correlated in time, from which a model learns its first dynamics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tdm_agents.actors.actor import Move
from tdm_agents.spaces import ActionCodec, DiscreteActionCodec


class CorrelatedNoise:
    """Noise ``x' = rho x + sqrt(1 - rho^2) e``, times a scale, clipped to [-1, 1], in one environment.

    Args:
        codec: Codec of a ``Box``.
        correlation: ``rho`` between decisions.
        scale: Factor of the noise; at 3, two of three actions are at a bound.
        rng: Source of ``e``.
    """

    action_repeat: int | None = None

    def __init__(
        self, codec: ActionCodec, *, correlation: float, scale: float, rng: np.random.Generator
    ) -> None:
        self._codec = codec
        self._correlation = correlation
        self._scale = scale
        self._rng = rng
        self._noise = rng.standard_normal(codec.dim)  # stationary from the first decision on

    def act(self, observations: Sequence[Any], rewards: Sequence[float], active: Sequence[bool]) -> Move:
        """See :class:`tdm_agents.actors.actor.Actor`."""
        rho = self._correlation
        code = np.clip(self._scale * self._noise, -1, 1).astype(np.float32)
        fresh = self._rng.standard_normal(self._noise.shape)
        self._noise = rho * self._noise + np.sqrt(1 - rho * rho) * fresh
        return Move([self._codec.decode(code)], [], 0.0, codes=code[None])


class HeldChoices:
    """Uniform choices of discrete actions, each component held for a random while, in one environment.

    Args:
        codec: Codec of a ``Discrete`` or ``MultiDiscrete``.
        hold: Probability that a component keeps its choice at a decision.
        rng: Source of the choices.
    """

    action_repeat: int | None = None

    def __init__(self, codec: DiscreteActionCodec, *, hold: float, rng: np.random.Generator) -> None:
        self._codec = codec
        self._hold = hold
        self._rng = rng
        self._code = rng.integers(codec.choices)

    def act(self, observations: Sequence[Any], rewards: Sequence[float], active: Sequence[bool]) -> Move:
        """See :class:`tdm_agents.actors.actor.Actor`."""
        code = self._code
        held = self._rng.random(self._codec.dim) < self._hold
        self._code = np.where(held, code, self._rng.integers(self._codec.choices))
        return Move([self._codec.decode(code[None])[0]], [], 0.0, codes=code[None])
