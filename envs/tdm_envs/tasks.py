"""The batched task of a live environment, for simulators that ask hundreds of thousands of times."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from tdm_envs.suite import SuiteTask, batched_task
from tdm_envs.walkers.env import WalkerEnv
from tdm_envs.walkers.task import WalkerTask


def batched_task_of(env: gym.Env[Any, Any]) -> SuiteTask | WalkerTask | None:
    """What ``SimulatorModel(env, fast=...)`` takes; None where the environment's own task has to be asked.

    Args:
        env: In wrappers or not; only read.
    """
    if isinstance(env.unwrapped, WalkerEnv):
        return WalkerTask(env)
    return batched_task(env.spec.id) if env.spec is not None else None
