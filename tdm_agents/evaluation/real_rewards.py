"""Returns by a reward function instead of the environment's own reward: what was asked of the agent."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from tdm_agents.agent.reward_choice import check_reward, function_for
from tdm_agents.env_checks import read_reward
from tdm_agents.environments import Env, name_of
from tdm_agents.protocols import RewardFn
from tdm_agents.protocols.columns import ColumnNames
from tdm_agents.spaces import ObservationCodec
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.spaces.scalar_names import labels_of
from tdm_agents.wrappers.reward_function import check_reward_fn, rewards_of


class Scoring:
    """The reward function, for the real steps of environments.

    Args:
        reward: A function or its name, as for :class:`tdm_agents.TDMAgent`.
        env: One of the environments; they are alike.

    Raises:
        LookupError: If there is no such function.
        ImportError: If its module does not exist or cannot be imported.
        ValueError: If it is of another body.
    """

    def __init__(self, reward: str | RewardFn, env: Env) -> None:
        self._function = function_for(
            spec_of(env.observation_space, env.action_space), reward, name_of(lambda: env, env)
        )
        check_reward_fn(self._function)
        check_reward(reward, env)
        self._codec = ObservationCodec(env.observation_space)
        self._names = ColumnNames(labels_of(env))
        self._box = isinstance(env.action_space, spaces.Box)

    def __call__(self, observation: Any, action: Any, next_observation: Any) -> float:
        """The reward of a step, all as the environment has it."""
        before, after = (
            torch.as_tensor(self._codec.flatten(o), device="cpu")[None]
            for o in (observation, next_observation)
        )
        flat = np.asarray(action, np.float32 if self._box else np.int64).reshape(1, -1)
        reward = rewards_of(self._function, self._names, before, torch.as_tensor(flat, device="cpu"), after)
        return read_reward(reward.item(), "what the reward function returned")
