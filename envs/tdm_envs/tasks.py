"""The batched task of a live environment, for simulators that evaluate hundreds of thousands of states."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from tdm_envs.mistakes import EnvsValueError
from tdm_envs.suite import SuiteTask, batched_task
from tdm_envs.suite_tasks import task_id
from tdm_envs.walkers.env import WalkerEnv
from tdm_envs.walkers.task import WalkerTask


def batched_task_of(env: gym.Env[Any, Any], *, guide: float = 0.0) -> SuiteTask | WalkerTask | None:
    """The ``fast`` argument of ``SimulatorModel``; None where the environment's own task is needed.

    Args:
        env: The environment, with or without wrappers; it is only read.
        guide: See :class:`~tdm_envs.walkers.task.WalkerTask`.

    Raises:
        ValueError: If there is a ``guide`` and the environment is not a walker.
    """
    if isinstance(env.unwrapped, WalkerEnv):
        return WalkerTask(env, guide)
    if guide:
        raise EnvsValueError(f"guide is {guide} and {env} is not a walker; expected 0")
    env_id = task_id(env)
    return None if env_id is None else batched_task(env_id)
