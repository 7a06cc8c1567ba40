"""Wrappers around an environment that change what an agent is told, although no space shows it.

A model has learned what the environment's own observations and rewards mean. A wrapper that belongs to the
registered environment (``gymnasium.register(additional_wrappers=...)``) was there when data were collected,
so it is part of the environment.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv, VectorWrapper

from tdm_agents.errors import WrongValueError

_REWARDS = (
    "it changes the rewards that the agent is told of: wrap what attach() returns instead, "
    "{name}(agent.attach(env), ...); to plan for another reward, say reward_function="
)
_REFUSED = {
    "ClipReward": _REWARDS,
    "NormalizeObservation": (
        "what it returns depends on all that it has seen, and not only on the environment's state: take it "
        "off (models scale observations themselves), or freeze it with update_running_mean = False where the "
        "data were collected like that"
    ),
    "NormalizeReward": _REWARDS,
    "TransformReward": _REWARDS,
}
"""What is wrong with wrappers of Gymnasium, by name: some are in two modules, one for vector environments."""


def refuse_hidden_changes(env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> None:
    """Refuse an environment with a wrapper that changes what an agent is told, and shows it in no space.

    Args:
        env: With its wrappers, if any; of vector environments, only a ``SyncVectorEnv`` shows its members.

    Raises:
        ValueError: Naming the outermost of them and what to do instead.
    """
    own = {wrapper.name for wrapper in _registered(env)}
    for wrapper in _wrappers(env):
        names = [base.__name__ for base in type(wrapper).__mro__ if base.__module__.startswith("gymnasium.")]
        name = next((name for name in names if name in _REFUSED), None)
        frozen = name == "NormalizeObservation" and not getattr(wrapper, "update_running_mean", True)
        if name is None or name in own or frozen:
            continue
        why = _REFUSED[name].format(name=name)
        raise WrongValueError(f"the agent cannot act in {env} through {type(wrapper).__name__}: {why}")


def _registered(env: Any) -> tuple[Any, ...]:
    """The wrappers with which an environment's id is registered."""
    spec = gym.registry.get(env.spec.id) if env.spec is not None else None
    return () if spec is None else spec.additional_wrappers


def _wrappers(env: Any) -> Iterator[Any]:
    """From the outside to the inside."""
    while isinstance(env, gym.Wrapper | VectorWrapper):
        yield env
        env = env.env
    members = getattr(env, "envs", ()) if isinstance(env, VectorEnv) else ()
    if members:
        yield from _wrappers(members[0])  # they are alike
