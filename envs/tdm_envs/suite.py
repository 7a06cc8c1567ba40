"""dm_control suite tasks for many states at once, for simulators that evaluate hundreds of thousands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tdm_envs.rewards import Reward, cartpole_swingup

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SuiteTask:
    """Observation and reward of a task as functions of the physics state.

    Attributes:
        observe: Maps positions ``[..., nq]`` and velocities ``[..., nv]`` to flat observations ``[..., n]``,
            in the environment's own order and units.
        reward: Reward of one environment step, from flat observations and actions in physical units.
    """

    observe: Callable[[Array, Array], Array]
    reward: Reward


def observe_cartpole(qpos: Array, qvel: Array) -> Array:
    """Cart position (m), cosine and sine of the pole's angle, and velocities of cart (m/s) and pole (rad/s).

    These are ``bounded_position`` and ``velocity`` of dm_control's ``suite/cartpole.py`` (Apache-2.0), where
    the pole is upright at angle 0.

    Args:
        qpos: ``[..., 2]``, positions of slider and hinge.
        qvel: ``[..., 2]``, velocities of slider and hinge.

    Returns:
        Observations ``[..., 5]``.
    """
    observation = np.empty((*qpos.shape[:-1], 5))
    observation[..., 0] = qpos[..., 0]
    np.cos(qpos[..., 1], out=observation[..., 1])
    np.sin(qpos[..., 1], out=observation[..., 2])
    observation[..., 3:] = qvel
    return observation


# functions of the state alone, so they hold for any physical constants (variants of tdm/Suite-v0)
_TASKS = {"dm_control/cartpole-swingup-v0": SuiteTask(observe_cartpole, cartpole_swingup)}


def batched_task(env_id: str) -> SuiteTask | None:
    """The batched task of a Gymnasium id; None where there is none and the environment's own is needed."""
    return _TASKS.get(env_id)
