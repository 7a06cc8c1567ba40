"""Observations of a walker: ``13 + 2 dof`` scalars, a pure function of position and velocity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

T = TypeVar("T", float, Array)

ROOT_SCALARS = 13
"""Number of scalars before those of the hinges."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """One observation scalar.

    Attributes:
        name: A unique name.
        unit: SI unit; ``"1"`` for entries of a rotation matrix.
        frame: The axis or hinge along which it is measured.
    """

    name: str
    unit: str
    frame: str


def observation_scalars(dof: int) -> tuple[Scalar, ...]:
    """The scalars of the observation, in order.

    Args:
        dof: Number of hinges, which are numbered from 1, depth first.
    """
    return (
        Scalar("root_height", "m", "world z of the root limb's start"),
        # rows 0 and 2 of the root's rotation matrix: the task's direction, and up
        *(Scalar(f"root_{axis}_axis_x", "1", f"world x of the root's {axis} axis") for axis in "xyz"),
        *(Scalar(f"root_{axis}_axis_z", "1", f"world z of the root's {axis} axis") for axis in "xyz"),
        *(Scalar(f"root_velocity_{axis}", "m/s", f"the root's {axis} axis") for axis in "xyz"),
        *(Scalar(f"root_angular_velocity_{axis}", "rad/s", f"the root's {axis} axis") for axis in "xyz"),
        *(Scalar(f"hinge{i}_angle", "rad", f"hinge {i}") for i in range(1, dof + 1)),
        *(Scalar(f"hinge{i}_velocity", "rad/s", f"hinge {i}") for i in range(1, dof + 1)),
    )


def observe(qpos: Array, qvel: Array) -> Array:
    """Observations from MuJoCo's positions and velocities, for any number of states at once.

    They are computed element by element, so that a state's observation is the same to the last bit alone and
    in a batch.

    Args:
        qpos: ``[..., 7 + dof]``; position and unit quaternion (w, x, y, z) of the root, hinge angles.
        qvel: ``[..., 6 + dof]``; the root's linear velocity in the world's frame, its angular velocity in
            its own, hinge velocities.

    Returns:
        ``[..., 13 + 2 dof]`` float64, see :func:`observation_scalars`.
    """
    dof = qpos.shape[-1] - 7
    seen = np.empty((*qpos.shape[:-1], ROOT_SCALARS + 2 * dof))
    if qpos.ndim == 1:  # the live environment: Python's floats give the same numbers three times faster
        seen[:10] = _root(*qpos[2:7].tolist(), *qvel[:3].tolist())
    else:
        root = _root(*(qpos[..., i] for i in range(2, 7)), *(qvel[..., i] for i in range(3)))
        for i, scalar in enumerate(root):
            seen[..., i] = scalar
    seen[..., 10:13] = qvel[..., 3:6]
    seen[..., 13 : 13 + dof] = qpos[..., 7:]
    seen[..., 13 + dof :] = qvel[..., 6:]
    return seen


def _root(height: T, w: T, x: T, y: T, z: T, vx: T, vy: T, vz: T) -> tuple[T, ...]:
    """The first ten scalars, of height, unit quaternion and linear velocity in the world's frame."""
    r00, r01, r02 = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)
    r10, r11, r12 = 2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    r20, r21, r22 = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)
    forward = r00 * vx + r10 * vy + r20 * vz  # R^T v
    left = r01 * vx + r11 * vy + r21 * vz
    up = r02 * vx + r12 * vy + r22 * vz
    return height, r00, r01, r02, r20, r21, r22, forward, left, up
