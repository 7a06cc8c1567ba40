"""Where a body is in imagined futures: from the actions of a plan, or from what a model imagined."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
import numpy.typing as npt
from mujoco.rollout import rollout

from tdm_agents.view.observed_positions import ObservedPositions
from tdm_agents.view.snapshots import PlanSeen

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Poses:
    """Poses of all bodies of a model.

    Attributes:
        position: ``[..., bodies, 3]``, of the body frames, in metres.
        quaternion: ``[..., bodies, 4]``, w first.
        centre: ``[..., bodies, 3]``, centres of mass.
    """

    position: Array
    quaternion: Array
    centre: Array


class Kinematics:
    """Poses of a model's bodies from positions, on data of its own.

    Args:
        model: The model.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self.model = model
        self._data = mujoco.MjData(model)

    def poses(self, qpos: Array) -> Poses:
        """The poses in ``qpos`` ``[..., nq]``; NaN where they are not finite."""
        model, data, lead = self.model, self._data, qpos.shape[:-1]
        flat = qpos.reshape(-1, model.nq)
        position = np.full((len(flat), model.nbody, 3), np.nan)
        quaternion = np.full((len(flat), model.nbody, 4), np.nan)
        centre = np.full((len(flat), model.nbody, 3), np.nan)
        for row, q in enumerate(flat):
            if not np.isfinite(q).all():
                continue
            data.qpos[:] = q
            mujoco.mj_kinematics(model, data)
            position[row], quaternion[row], centre[row] = data.xpos, data.xquat, data.xipos
        return Poses(
            position.reshape(*lead, model.nbody, 3),
            quaternion.reshape(*lead, model.nbody, 4),
            centre.reshape(*lead, model.nbody, 3),
        )


def positions_of(physics: Array, model: mujoco.MjModel) -> Array:
    """The positions ``[..., nq]`` in MuJoCo's ``FULLPHYSICS`` states ``[..., nstate]``: time, qpos, qvel."""
    return physics[..., 1 : 1 + model.nq]


def velocities_of(physics: Array, model: mujoco.MjModel) -> Array:
    """The velocities ``[..., nv]`` in the same states."""
    return physics[..., 1 + model.nq : 1 + model.nq + model.nv]


def imagined_positions(
    plan: PlanSeen,
    model: mujoco.MjModel,
    reader: ObservedPositions,
    *,
    steps: int,
    seconds: float,
) -> Array | None:
    """Positions ``[1 + S, H, nq]`` of the futures of a plan; None where nothing tells them.

    For the true dynamics the actions are played again from the state in which the plan was made, which gives
    what the planner saw. For other models they are read from the imagined observations.

    Args:
        plan: The plan.
        model: The body.
        reader: Reads positions from observations.
        steps: Physics steps per decision.
        seconds: Seconds per decision.
    """
    if plan.physics is None:
        return None
    if plan.true:
        return _played_again(plan, model, steps)
    if plan.observation is None:
        return None
    return reader.positions(plan.observation, positions_of(plan.physics, model), seconds)


def _played_again(plan: PlanSeen, model: mujoco.MjModel, steps: int) -> Array | None:
    futures, _, actions = plan.actions.shape
    if actions != model.nu or plan.physics is None:
        return None
    control = np.repeat(plan.actions.astype(np.float64), steps, axis=1)  # [1 + S, H * steps, nu]
    start = np.tile(plan.physics, (futures, 1))
    warm = None if plan.warmstart is None else np.tile(plan.warmstart, (futures, 1))
    states, _ = rollout(model, mujoco.MjData(model), start, control, initial_warmstart=warm)
    positions: Array = positions_of(states, model)[:, steps - 1 :: steps]
    return positions
