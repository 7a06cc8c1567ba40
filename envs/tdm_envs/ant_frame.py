"""What an ant sees of itself on its way to a point: the same in every direction."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SIZE = 31
"""Scalars of an observation."""
SEEN = 5.0
"""Distances above this are not told apart, in metres."""


def towards(ant: Floats, offset: Floats) -> Floats:
    """What the ant sees of itself on its way to a point.

    Args:
        ant: Its observation in ``Ant-v5`` without ``x`` and ``y``, of which the first 27 scalars are read:
            height (m), orientation (quaternion, scalar first), 8 joint angles (rad), velocity in the world
            (m/s), angular velocity in the body (rad/s), 8 joint velocities (rad/s).
        offset: ``[2]``, from the ant to the point, in the world's frame (m).

    Returns:
        ``[31]``, in the frame whose first axis points at the point: height, the first two columns of the
        orientation's matrix, joint angles, velocity, angular velocity in the body, a tenth of the joint
        velocities, distance up to :data:`SEEN`, and whether it is nearer than 1 m (0 or 1).
    """
    distance = float(np.hypot(*offset))
    cosine, sine = (offset / distance) if distance > 0.0 else (1.0, 0.0)
    turn = np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    orientation = turn @ matrix_of(ant[1:5])
    return np.concatenate(
        (
            ant[:1],
            orientation[:, :2].ravel(),
            ant[5:13],
            turn @ ant[13:16],
            ant[16:19],
            0.1 * ant[19:27],
            [min(distance, SEEN), float(distance < 1.0)],
        )
    )


def matrix_of(quaternion: Floats) -> Floats:
    """``[3, 3]`` of a quaternion ``[4]``, which need not have length 1."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
