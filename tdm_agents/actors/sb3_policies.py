"""Policies of Stable-Baselines3 as actors: asked about all episodes in one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array

from tdm_agents.actors.actor import Move
from tdm_agents.environments import Env
from tdm_agents.errors import WrongValueError
from tdm_agents.spaces import ObservationCodec
from tdm_agents.wrappers.sb3 import Predicts, draws_from, other_space, policy_of


@dataclass(frozen=True, slots=True)
class Predictor:
    """A Stable-Baselines3 policy, and how it is asked.

    Attributes:
        policy: An algorithm or a policy: anything with SB3's ``predict``.
        deterministic: Whether to take mean or likeliest actions instead of sampled ones.
        action_repeat: Environment steps that each action is held, where the policy was trained like that.
        normalize: Function that a batch of observations goes through first, for example ``VecNormalize``'s
            ``normalize_obs``; None = none.
    """

    policy: Predicts
    deterministic: bool = True
    action_repeat: int = 1
    normalize: Callable[[Any], Any] | None = None


class PredictActor:
    """A Stable-Baselines3 policy that is asked about all episodes in one call.

    Args:
        predictor: The policy.
        envs: ``E`` environments of the same spaces. Where they observe a ``Dict`` and the policy reads a flat
            ``Box`` of as many scalars, observations are flattened as Gymnasium's ``FlattenObservation`` does.
        seed: Seed of sampled actions; None leaves them to torch's global randomness.

    Raises:
        ValueError: If the policy was trained on other spaces.
    """

    def __init__(self, predictor: Predictor, envs: Sequence[Env], seed: int | None = None) -> None:
        self._predictor = predictor
        self._space = envs[0].observation_space
        self._codec = _check_spaces(predictor.policy, envs[0])
        self._generator = None if seed is None else torch.Generator("cpu").manual_seed(int(seed))
        self._state: Any = None
        self._start = np.ones(len(envs), bool)
        self.action_repeat: int | None = predictor.action_repeat

    def act(self, observations: Sequence[Any], rewards: Sequence[float], active: Sequence[bool]) -> Move:
        """See :class:`tdm_agents.actors.actor.Actor`."""
        began = time.perf_counter()
        asked = self._ask(observations)
        milliseconds = 1e3 * (time.perf_counter() - began)
        actions = [h if a else None for h, a in zip(asked, active, strict=True)]
        return Move(actions, [i for i, a in enumerate(active) if a], milliseconds)

    def _ask(self, observations: Sequence[Any]) -> list[Any]:
        predictor = self._predictor
        # asked about ended episodes too, because the state of a recurrent policy has all rows
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
    """Refuse other spaces than the environment's; return the codec if observations are to be flattened."""
    observation = getattr(policy, "observation_space", env.observation_space)
    flattened = isinstance(observation, spaces.Box) and not isinstance(env.observation_space, spaces.Box)
    expected = spaces.flatten_space(env.observation_space) if flattened else env.observation_space
    flaw = other_space(policy, expected, env.action_space, "the environment's")
    if flaw is not None:
        raise WrongValueError(
            f"{flaw}: expected a policy that was trained on this environment; if it was trained behind "
            "wrappers, pass a function that makes the environment with them"
        )
    return ObservationCodec(env.observation_space) if flattened else None
