"""The MuJoCo physics behind an environment, wherever they come from: read for the picture, pushed by hand."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt
from gymnasium import Env

Array = npt.NDArray[np.float64]

FULLPHYSICS = mujoco.mjtState.mjSTATE_FULLPHYSICS.value


class LivePhysics:
    """The model and the data of a live environment.

    Args:
        env: With its wrappers, if any; see :func:`physics_of`.
    """

    def __init__(self, env: Env[Any, Any]) -> None:
        inner: Any = env.unwrapped
        # Shimmy forwards unknown attributes to dm_control's environment: read only its own
        self._owner: Any = getattr(vars(inner).get("_env"), "physics", None)
        self._inner = inner

    @property
    def model(self) -> mujoco.MjModel:
        """The live model; environments may compile another one at a reset."""
        return self._inner.model if self._owner is None else self._owner.model.ptr

    @property
    def data(self) -> mujoco.MjData:
        """The live data."""
        return self._inner.data if self._owner is None else self._owner.data.ptr

    @property
    def sub_steps(self) -> int:
        """Physics steps of one environment step, 1 where the environment does not say."""
        inner = self._inner
        name = "frame_skip" if self._owner is None else "_n_sub_steps"
        return int(getattr(inner if self._owner is None else vars(inner)["_env"], name, 1))

    @property
    def weight(self) -> float:
        """Weight of all that moves, in newtons under the earth's gravity."""
        return 9.81 * float(self.model.body_mass[self.model.body_weldid != 0].sum())

    def state(self) -> tuple[Array, Array]:
        """MuJoCo's ``FULLPHYSICS`` state ``[nstate]`` and the solver's warm start ``[nv]``."""
        state = np.empty(mujoco.mj_stateSize(self.model, FULLPHYSICS))
        mujoco.mj_getState(self.model, self.data, state, FULLPHYSICS)
        return state, np.array(self.data.qacc_warmstart)

    def push(self, body: int, force: Array) -> None:
        """Apply a force in newtons, in the world's frame, to a body until :meth:`release`."""
        self.data.xfrc_applied[body, :3] = force

    def release(self) -> None:
        """Apply no force any more: planners that read the physics must not foresee a push."""
        self.data.xfrc_applied[:] = 0.0


def physics_of(env: Env[Any, Any]) -> LivePhysics | None:
    """The physics of a dm_control, Gymnasium or walker environment; None where MuJoCo is not behind it."""
    inner: Any = env.unwrapped
    owner = getattr(vars(inner).get("_env"), "physics", None)
    if owner is not None and isinstance(getattr(owner.model, "ptr", None), mujoco.MjModel):
        return LivePhysics(env)
    own = isinstance(getattr(inner, "model", None), mujoco.MjModel)
    return LivePhysics(env) if own and isinstance(getattr(inner, "data", None), mujoco.MjData) else None


def body_names(model: mujoco.MjModel) -> list[str]:
    """Names of the bodies, the world first; numbered where they have none."""
    return [model.body(i).name or f"body {i}" for i in range(model.nbody)]
