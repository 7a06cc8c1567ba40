"""Environments by id, for evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import gymnasium as gym

Env = gym.Env[Any, Any]
MakeEnv = Callable[[], Env]

# gymnasium 1.x no longer imports packages that register environments; these namespaces are ours to know
_PROVIDERS = {"dm_control": "shimmy", "tdm": "tdm_envs"}


def make_env(env: str | MakeEnv, **kwargs: Any) -> Env:
    """An environment from its id (``"dm_control/cartpole-swingup-v0"``, ``"module:id"``) or a function.

    Args:
        env: The id, or the function.
        kwargs: Of ``gymnasium.make``, with an id.

    Raises:
        gymnasium.error.Error: If nothing registers the id.
    """
    if not isinstance(env, str):
        return env()
    namespace = env.partition("/")[0]
    if ":" not in env and "/" in env and namespace in _PROVIDERS:
        import_module(_PROVIDERS[namespace])
    return gym.make(env, **kwargs)


@dataclass(frozen=True, slots=True)
class Place:
    """Where is played: makes the environment when it is called.

    Attributes:
        env_id: For ``gymnasium.make``; ``module:ID`` imports what registers it.
        kwargs: Of ``gymnasium.make``.
    """

    env_id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What reports call it, and what :func:`tdm_agents.evaluation.entries.parse_place` reads."""
        return " ".join([self.env_id, *(f"{k}={v}" for k, v in self.kwargs.items())])

    def __call__(self) -> Env:
        """A new environment."""
        return make_env(self.env_id, **self.kwargs)

    def in_window(self) -> Env:
        """A new environment that shows itself on the screen."""
        return make_env(self.env_id, **{**self.kwargs, "render_mode": "human"})


def name_of(env: str | MakeEnv, made: Env) -> str:
    """What a report calls the environment."""
    if isinstance(env, str):
        return env
    if isinstance(env, Place):
        return env.name
    return made.spec.id if made.spec is not None else type(made.unwrapped).__name__


def episode_limit(env: Env) -> int | None:
    """Environment steps after which an episode is truncated, where the environment says so.

    Shimmy's dm_control environments have no ``max_episode_steps``: dm_control counts the steps itself.
    """
    if env.spec is not None and env.spec.max_episode_steps is not None:
        return int(env.spec.max_episode_steps)
    steps = getattr(getattr(env.unwrapped, "_env", None), "_step_limit", math.inf)
    return int(steps) if isinstance(steps, int | float) and math.isfinite(steps) else None


def seconds_per_step(env: Env) -> float:
    """An environment step in seconds: ``dt`` of MuJoCo environments, or what ``render_fps`` says.

    Raises:
        ValueError: If it says neither.
    """
    if (dt := getattr(env.unwrapped, "dt", None)) is not None:
        return float(dt)
    if not (rate := env.unwrapped.metadata.get("render_fps")):
        raise ValueError(
            f"{env.unwrapped} does not say how long a step is; give it dt, in seconds, or "
            'metadata["render_fps"]'
        )
    return 1.0 / float(rate)
