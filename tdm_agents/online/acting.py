"""Who acts while a model learns online, and from which seeds: all of it a function of the run's seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tdm_agents.actors.actor import Actor
from tdm_agents.actors.agents import AgentActor
from tdm_agents.actors.functions import FunctionActor, UniformActions
from tdm_agents.agent import TDMAgent
from tdm_agents.agent.predict import for_exploration
from tdm_agents.collection.seeds import TUNING_FIRST, draw_reset_seed
from tdm_agents.environments import Env, EnvRef, episode_limit, steps_at_most
from tdm_agents.online.online_config import OnlineConfig
from tdm_agents.protocols import Planner, TrainableModel

_ACTIONS, _RESETS, _BATCHES = range(3)
"""What the streams of random numbers are for."""

PROBED = 5
"""Random episodes that are played to see whether the environment ends any."""


def acting_seed(config: OnlineConfig, first: int) -> int:
    """The seed of the actions in the round whose first episode has the number ``first``."""
    return int(np.random.SeedSequence([config.seed, _ACTIONS, first]).generate_state(1)[0])


def reset_seed(config: OnlineConfig, episode: int) -> int:
    """The seed of an episode's reset, of the range that no evaluation uses."""
    return draw_reset_seed(np.random.default_rng([config.seed, _RESETS, episode]))


def batch_rng(config: OnlineConfig, updates: int) -> np.random.Generator:
    """The generator of the windows of the update that follows ``updates`` updates."""
    return np.random.default_rng([config.seed, _BATCHES, updates])


def evaluation_seeds(config: OnlineConfig) -> Sequence[int]:
    """The seeds of every evaluation of a run: neither those of its training, nor of ``tdm evaluate``."""
    return range(TUNING_FIRST, TUNING_FIRST + config.evaluate_episodes)


def random_actor(env: Env, seed: int) -> Actor:
    """Uniform actions."""
    return FunctionActor(UniformActions(env.action_space, seed))


def exploring_actor(model: TrainableModel, planner: Planner, env: EnvRef, *, envs: int, seed: int) -> Actor:
    """The agent, varying what it executes."""
    world = model.environment(env.name)
    return AgentActor(TDMAgent(world, for_exploration(planner), seed, env_id=str(env)), envs)


def longest_episode(env: Env, config: OnlineConfig) -> int:
    """Environment steps after which an episode ends at the latest."""
    limits = (config.max_steps, episode_limit(env), steps_at_most(env, config.max_steps))
    return min(limit for limit in limits if limit is not None)


def terminates(env: EnvRef, config: OnlineConfig) -> bool:
    """Whether the environment ended one of a few random episodes; that one was cut off does not count."""
    made = env.make()
    try:
        most = longest_episode(made, config)
        for episode in range(PROBED):
            made.reset(seed=reset_seed(config, episode))
            act = UniformActions(made.action_space, acting_seed(config, episode))
            for _ in range(most):
                _, _, terminated, truncated, _ = made.step(act(None))
                if terminated:
                    return True
                if truncated:
                    break
        return False
    finally:
        made.close()
