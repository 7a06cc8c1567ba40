"""Play one episode of a behaviour policy."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from tdm_agents.data.minari_io import FlatEpisode
from tdm_agents.data.policies import BehaviourPolicy
from tdm_agents.data.seeds import draw_reset_seed, episode_rng
from tdm_agents.spaces import ActionCodec, ObservationCodec


def make_env(env_id: str) -> gym.Env[Any, Any]:
    """``gymnasium.make`` without the checker; dm_control ids work without importing shimmy first."""
    if env_id.startswith("dm_control/"):
        importlib.import_module("shimmy")
    return gym.make(env_id, disable_env_checker=True)


def play(
    env: gym.Env[Any, Any],
    policy: BehaviourPolicy,
    index: int,
    *,
    env_id: str,
    action_repeat: int,
    seed: int,
    max_steps: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> FlatEpisode:
    """Play episode ``index`` of a policy; see :func:`collect` for the other arguments.

    The last action of an episode may be held for fewer environment steps, where the episode ends.

    Args:
        env: Made from ``env_id``; is reset.
        policy: Draws the episode's own settings and acts.
        index: Of the episode among those of the policy.
        env_id: For policies that simulate the environment.
        action_repeat: Environment steps that each action is held.
        seed: Of the collection.
        max_steps: Environment steps after which the episode is cut off.
        stop: Asked before every decision.

    Raises:
        InterruptedError: If ``stop`` said so; the unfinished episode is of no use.
    """
    rng = episode_rng(seed, policy.name, index)
    reset_seed = draw_reset_seed(rng)
    observations = ObservationCodec(env.observation_space)
    codec = ActionCodec(env.action_space)
    observation, _ = env.reset(seed=reset_seed)
    flat = [observations.flatten(observation)]
    actor = policy.start(env, rng, env_id=env_id, action_repeat=action_repeat)
    actions: list[Any] = []
    rewards: list[float] = []
    terminated = truncated = False
    action: Any = None
    while not (terminated or truncated or len(rewards) == max_steps):
        if len(rewards) % action_repeat == 0:
            if stop():
                raise InterruptedError(f"episode {index} of {policy.name} was stopped")
            action = codec.decode(actor.act(flat[-1]))
        observation, reward, terminated, truncated, _ = env.step(action)
        flat.append(observations.flatten(observation))
        actions.append(action)
        rewards.append(float(reward))
    return FlatEpisode(
        observation=np.stack(flat),
        action=np.stack(actions),
        reward=np.asarray(rewards, np.float32),
        terminated=bool(terminated),
        seed=reset_seed,
        metadata={"policy": policy.name, "index": index, **actor.drawn},
    )
