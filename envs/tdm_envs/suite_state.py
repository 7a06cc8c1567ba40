"""The state of an episode of dm_control's suite, complete, as one vector of numbers.

It holds MuJoCo's integration state (position, velocity, activation, control, warm start of the solver, ...),
the sensors, and what the task wrote into the model when the episode began, mostly the place of the goal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION.value
# found by comparing the model before and after resets, in all tasks
_WRITTEN_AT_RESET: dict[str, tuple[str, ...]] = {
    "finger": ("site_pos", "site_size", "dof_damping", "site_rgba"),
    "fish": ("geom_pos", "geom_rgba"),
    "manipulator": ("body_pos", "body_quat"),
    "point_mass": ("wrap_prm",),
    "reacher": ("geom_pos", "geom_size"),
    "stacker": ("body_pos",),
    "swimmer": ("geom_pos", "light_pos"),
}


def written_fields(domain: str, task: str) -> tuple[str, ...]:
    """The arrays of the ``MjModel`` that a task writes when an episode begins."""
    if (domain, task) == ("quadruped", "escape"):
        return ("hfield_data",)  # its terrain; the other tasks leave that flat
    return _WRITTEN_AT_RESET.get(domain, ())


def read_state(model: Any, data: Any, fields: Sequence[str]) -> Array:
    """The state ``[size]`` of a model and its data.

    Args:
        model: ``mujoco.MjModel``.
        data: ``mujoco.MjData``.
        fields: Names from :func:`written_fields`.
    """
    physics = np.empty(mujoco.mj_stateSize(model, _STATE))
    mujoco.mj_getState(model, data, physics, _STATE)
    # sensors of forces and accelerations lag one physics step: the state alone does not determine them
    return np.concatenate([physics, data.sensordata, *(getattr(model, field).ravel() for field in fields)])


def write_state(model: Any, data: Any, fields: Sequence[str], state: Array) -> None:
    """Restore a state that :func:`read_state` returned to a model and its data."""
    ends = np.cumsum([mujoco.mj_stateSize(model, _STATE), model.nsensordata])
    physics, sensors, rest = np.split(state, ends)
    for field in fields:
        values = getattr(model, field)
        values[:] = rest[: values.size].reshape(values.shape)
        rest = rest[values.size :]
    mujoco.mj_setState(model, data, physics, _STATE)
    mujoco.mj_step1(model, data)  # not mj_forward, which would overwrite the solver's warm start
    data.sensordata[:] = sensors
