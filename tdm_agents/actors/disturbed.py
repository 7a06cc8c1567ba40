"""Disturbances of actors, so that their data also show mistakes and how to recover from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from tdm_agents.actors.actor import Actor, Correctable, Move
from tdm_agents.errors import WrongValueError
from tdm_agents.spaces import DiscreteActionCodec, action_codec


@dataclass(frozen=True, slots=True)
class Disturbance:
    """How strongly the episodes of an actor are disturbed.

    Attributes:
        noise_sds: Standard deviations of Gaussian noise on every action in [-1, 1]; each episode draws one of
            them. For discrete actions: probabilities that a component becomes a random choice.
        burst_episodes: Fraction of the episodes that have bursts of uniformly random actions.
        burst_rate: Probability per decision that a burst begins.
        burst_max: Most decisions that a burst lasts (uniform from 1).

    Raises:
        ValueError: If a setting makes no sense.
    """

    noise_sds: tuple[float, ...] = (0.0, 0.1, 0.3, 0.6)
    burst_episodes: float = 0.5
    burst_rate: float = 0.05
    burst_max: int = 12

    def __post_init__(self) -> None:
        if not self.noise_sds or min(self.noise_sds) < 0 or self.burst_max < 1:
            raise WrongValueError(f"{self}: expected noise_sds of at least 0 and burst_max of at least 1")

    def draw(self, rng: np.random.Generator) -> Drawn:
        """The disturbance of one episode."""
        bursts = rng.random() < self.burst_episodes
        noise = float(rng.choice(self.noise_sds))
        return Drawn(noise, self.burst_rate if bursts else 0.0, self.burst_max)


@dataclass(frozen=True, slots=True)
class Drawn:
    """The disturbance of one episode.

    Attributes:
        noise: One of :attr:`Disturbance.noise_sds`.
        burst_rate: Probability per decision that a burst begins.
        burst_max: Most decisions that a burst lasts.
    """

    noise: float
    burst_rate: float
    burst_max: int


class Disturbed:
    """An actor in one environment, with noise on its actions and bursts of random ones.

    During a burst the actor is not asked, but if it remembers what happened, it is told.

    Args:
        actor: Any actor.
        space: The environment's action space.
        drawn: The disturbance.
        rng: Source of noise and bursts.

    Raises:
        ValueError: If the space cannot be planned over.

    Attributes:
        drawn: The disturbance by name, to be recorded beside the data.
    """

    def __init__(
        self, actor: Actor, space: spaces.Space[Any], drawn: Drawn, rng: np.random.Generator
    ) -> None:
        self._actor = actor
        self._codec = action_codec(space)
        self._noise = drawn.noise
        self._burst_rate = drawn.burst_rate
        self._burst_max = drawn.burst_max
        self._rng = rng
        self._burst = 0  # decisions left of the present burst
        discrete = isinstance(self._codec, DiscreteActionCodec)
        self.drawn: Mapping[str, float] = {
            "random_choices" if discrete else "noise_sd": drawn.noise,
            "burst_rate": drawn.burst_rate,
        }

    @property
    def action_repeat(self) -> int | None:
        """The actor's own."""
        return self._actor.action_repeat

    def act(self, observations: Sequence[Any], rewards: Sequence[float], active: Sequence[bool]) -> Move:
        """See :class:`tdm_agents.actors.actor.Actor`."""
        told = self._actor if isinstance(self._actor, Correctable) else None
        if self._burst == 0 and self._rng.random() < self._burst_rate:
            self._burst = int(self._rng.integers(1, self._burst_max, endpoint=True))
        if self._burst:
            self._burst -= 1
            if told is not None:
                told.stand_aside(observations, rewards)
            move, codes = Move([], [], 0.0), self._random()[None]
        else:
            move = self._actor.act(observations, rewards, active)
            if move.codes is None and not self._noise:
                return move  # a way through codes could round it
            asked = self._codec.encode(np.stack(move.actions)) if move.codes is None else move.codes
            codes = self._with_noise(asked[0])[None]
        if told is not None:
            told.correct(codes)
        return replace(move, actions=list(self._codec.decode(codes)), codes=codes)

    def _random(self) -> npt.NDArray[Any]:
        if isinstance(self._codec, DiscreteActionCodec):
            return self._rng.integers(self._codec.choices)
        return self._rng.uniform(-1, 1, self._codec.dim).astype(np.float32)

    def _with_noise(self, code: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if isinstance(self._codec, DiscreteActionCodec):
            changed = self._rng.random(self._codec.dim) < self._noise
            return np.where(changed, self._rng.integers(self._codec.choices), code)
        noise = self._noise * self._rng.standard_normal(self._codec.dim)
        return np.clip(code + noise, -1, 1).astype(np.float32)
