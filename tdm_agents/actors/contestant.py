"""Contestants, and the actors that they become in the environments at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tdm_agents.actors.actor import Actor
from tdm_agents.actors.agents import AgentActor, AgentFactory
from tdm_agents.actors.functions import FunctionActor, Policy, UniformActions
from tdm_agents.actors.sb3_policies import PredictActor, Predictor
from tdm_agents.actors.waypoints import WaypointController
from tdm_agents.agent import TDMAgent
from tdm_agents.environments import Env
from tdm_agents.wrappers.sb3 import Predicts

Contestant = TDMAgent | AgentFactory | WaypointController | Predictor | Predicts | Policy
"""Whatever can play: an agent, a recipe for one, a controller, a Stable-Baselines3 policy, or a function."""


def actor_of(
    contestant: Contestant, envs: Sequence[Env], *, seed: int | None, record_horizon: int = 0
) -> Actor:
    """The actor that a contestant becomes in these environments.

    Args:
        contestant: An agent, a recipe for one, a controller, a Stable-Baselines3 policy, or a function.
        envs: The environments, already reset.
        seed: Seed of the contestant's randomness (a plain function has its own); None lets an agent's
            generator go on.
        record_horizon: See :class:`~tdm_agents.actors.agents.AgentActor`.

    Raises:
        ValueError: If the environments' spaces are not the contestant's.
    """
    if isinstance(contestant, WaypointController):
        return contestant(envs, seed or 0)
    if isinstance(contestant, AgentFactory):
        contestant = contestant(envs)
    if isinstance(contestant, TDMAgent):
        contestant.check_env(envs[0])
        if seed is not None:
            contestant.generator.manual_seed(int(seed))
        return AgentActor(contestant, len(envs), record_horizon)
    if isinstance(contestant, UniformActions):
        return FunctionActor(contestant if seed is None else replace(contestant, seed=seed))
    if isinstance(contestant, Predicts):
        contestant = Predictor(contestant)
    if isinstance(contestant, Predictor):
        return PredictActor(contestant, envs, seed)
    return FunctionActor(contestant)
