"""Players that imagine nothing: any function, random actions, policies of Stable-Baselines3."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array

from tdm_agents.environments import Env
from tdm_agents.evaluation.moves import Move
from tdm_agents.spaces import ObservationCodec
from tdm_agents.wrappers.sb3 import Predicts, draws_from, other_space, policy_of

Policy = Callable[[Any], Any]
"""An observation of the environment's space to an action of its space."""


@dataclass(frozen=True, slots=True)
class PolicyPlayer:
    """A plain function, called once an environment and step."""

    policy: Policy

    def move(self, observations: Sequence[Any], rewards: Sequence[float], active: Sequence[bool]) -> Move:
        """See :class:`tdm_agents.evaluation.moves.Player`."""
        began = time.perf_counter()
        actions = [self.policy(o) if a else None for o, a in zip(observations, active, strict=True)]
        milliseconds = 1e3 * (time.perf_counter() - began)
        rows = [i for i, a in enumerate(active) if a]
        return Move(actions, rows, rows, milliseconds)


@dataclass(frozen=True, slots=True)
class RandomPolicy:
    """Uniform actions: the baseline below everything.

    Attributes:
        space: The environment's action space: a bounded ``Box``, ``Discrete`` or ``MultiDiscrete``.
        seed: Same seed, same actions.

    Raises:
        ValueError: If the space is another.
    """

    space: spaces.Space[Any]
    seed: int = 0
    _rng: np.random.Generator = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        bounded = isinstance(self.space, spaces.Box) and self.space.is_bounded()
        if not bounded and not isinstance(self.space, spaces.Discrete | spaces.MultiDiscrete):
            raise ValueError(
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
        drawn = self._rng.uniform(space.low, space.high).astype(space.dtype)
        return np.clip(drawn, space.low, space.high)


@dataclass(frozen=True, slots=True)
class Predictor:
    """A Stable-Baselines3 policy, and how it is asked.

    Attributes:
        policy: An algorithm or a policy: anything with its ``predict``.
        deterministic: Mean or likeliest actions instead of sampled ones.
        action_repeat: Environment steps that each action is held, where the policy was trained so.
        normalize: What a batch of observations goes through first, for example ``VecNormalize``'s
            ``normalize_obs``; None = nothing.
    """

    policy: Predicts
    deterministic: bool = True
    action_repeat: int = 1
    normalize: Callable[[Any], Any] | None = None


class PredictPlayer:
    """A Stable-Baselines3 policy that is asked about all episodes in one call.

    Args:
        predictor: The policy.
        envs: ``E`` environments of the same spaces. Where they observe a ``Dict`` and the policy reads a flat
            ``Box`` of as many scalars, observations are flattened as Gymnasium's ``FlattenObservation`` does.
        seed: Of sampled actions; None leaves them to torch's global randomness.

    Raises:
        ValueError: If the policy was trained on other spaces.
    """

    def __init__(self, predictor: Predictor, envs: Sequence[Env], seed: int | None = None) -> None:
        self._predictor = predictor
        self._space = envs[0].observation_space
        self._codec = _check_spaces(predictor.policy, envs[0])
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)
        self._state: Any = None
        self._start = np.ones(len(envs), bool)
        self._held: list[Any] = []
        self._left = 0

    def move(self, observations: Sequence[Any], rewards: Sequence[float], active: Sequence[bool]) -> Move:
        """See :class:`tdm_agents.evaluation.moves.Player`."""
        rows: list[int] = []
        milliseconds = 0.0
        if self._left == 0:
            began = time.perf_counter()
            self._held = self._ask(observations)
            milliseconds = 1e3 * (time.perf_counter() - began)
            rows = [i for i, a in enumerate(active) if a]
            self._left = self._predictor.action_repeat
        self._left -= 1
        actions = [h if a else None for h, a in zip(self._held, active, strict=True)]
        return Move(actions, rows, rows, milliseconds)

    def _ask(self, observations: Sequence[Any]) -> list[Any]:
        predictor = self._predictor
        # episodes that are over are asked about too: the state of a recurrent policy has all rows
        count = len(observations)
        empty: Any = create_empty_array(self._space, count)
        stacked: Any = concatenate(self._space, observations, empty)
        if self._codec is not None:
            stacked = self._codec.flatten_batch(stacked, count)
        if predictor.normalize is not None:
            stacked = predictor.normalize(stacked)
        with draws_from(None if predictor.deterministic else self._generator):
            actions, self._state = policy_of(predictor.policy).predict(
                stacked, self._state, self._start.copy(), predictor.deterministic
            )
        self._start[:] = False
        return list(np.asarray(actions))


def _check_spaces(policy: Predicts, env: Env) -> ObservationCodec | None:
    """Refuse other spaces than the environment's; the codec where observations are to be flattened."""
    observation = getattr(policy, "observation_space", env.observation_space)
    flattened = isinstance(observation, spaces.Box) and not isinstance(env.observation_space, spaces.Box)
    expected = spaces.flatten_space(env.observation_space) if flattened else env.observation_space
    flaw = other_space(policy, expected, env.action_space, "the environment's")
    if flaw is not None:
        raise ValueError(
            f"{flaw}: expected a policy that was trained on this environment; if it was trained behind "
            "wrappers, pass a function that makes the environment with them"
        )
    return ObservationCodec(env.observation_space) if flattened else None
