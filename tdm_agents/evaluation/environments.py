"""Environments by id, for evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import gymnasium as gym

Env = gym.Env[Any, Any]
MakeEnv = Callable[[], Env]

# gymnasium 1.x no longer imports packages that register environments; these namespaces are ours to know
_PROVIDERS = {"dm_control": "shimmy", "tdm": "tdm_envs"}


def make_env(env: str | MakeEnv) -> Env:
    """An environment from its id (``"dm_control/cartpole-swingup-v0"``, ``"module:id"``) or a function.

    Raises:
        gymnasium.error.Error: If nothing registers the id.
    """
    if not isinstance(env, str):
        return env()
    namespace = env.partition("/")[0]
    if ":" not in env and "/" in env and namespace in _PROVIDERS:
        import_module(_PROVIDERS[namespace])
    return gym.make(env)


def name_of(env: str | MakeEnv, made: Env) -> str:
    """What a report calls the environment."""
    if isinstance(env, str):
        return env
    return made.spec.id if made.spec is not None else type(made.unwrapped).__name__


def episode_limit(env: Env) -> int | None:
    """Environment steps after which an episode is truncated, where the environment says so.

    Shimmy's dm_control environments have no ``max_episode_steps``: dm_control counts the steps itself.
    """
    if env.spec is not None and env.spec.max_episode_steps is not None:
        return int(env.spec.max_episode_steps)
    steps = getattr(getattr(env.unwrapped, "_env", None), "_step_limit", math.inf)
    return int(steps) if isinstance(steps, int | float) and math.isfinite(steps) else None
