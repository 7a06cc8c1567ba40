"""A procedural walker as a Gymnasium environment.

``gym.make("tdm_envs:tdm/WalkerTree-v0", dof=12, body=3)``
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from tdm_envs.mistakes import EnvsError
from tdm_envs.walkers.families import build_body
from tdm_envs.walkers.observation import Array, observation_scalars, observe
from tdm_envs.walkers.rendering import Screen
from tdm_envs.walkers.spec import FRAME_SKIP, JOINT_RANGE, TIMESTEP, build_spec

TARGET_SPEED = 1.0
"""Target velocity along world +x, in m/s."""
RESET_ANGLE = 0.1 * JOINT_RANGE
"""Largest angle of a hinge at the start, in radians from rest; drawn uniformly."""
RESET_VELOCITY = 0.1
"""Largest velocity of a hinge at the start, in rad/s; drawn uniformly."""
RESET_CLEARANCE = 0.01
"""Height of the lowest point above the floor at the start, in metres."""

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION.value
_FATAL = (
    mujoco.mjtWarning.mjWARN_BADQPOS.value,
    mujoco.mjtWarning.mjWARN_BADQVEL.value,
    mujoco.mjtWarning.mjWARN_BADQACC.value,
)


class PhysicsDivergedError(EnvsError, RuntimeError):
    """MuJoCo gave up on the state; the episode is lost and the environment has to be reset."""


def refuse_impossible_state(state: Array, size: int, owner: str) -> None:
    """Refuse a state that an environment's ``state()`` cannot have returned, before anything is written.

    Args:
        state: The given state.
        size: Expected number of numbers.
        owner: Owner of the state, in words, for the message.

    Raises:
        ValueError: If it has another shape, or numbers that are not finite.
    """
    if np.shape(state) != (size,):
        raise ValueError(f"state has shape {np.shape(state)}; {owner} has states of shape {(size,)}")
    if not (finite := np.isfinite(state)).all():
        first = int(np.argmin(finite))
        raise ValueError(
            f"state[{first}] is {state[first]}; expected finite numbers: restore a state from before the "
            "physics diverged"
        )


class WalkerEnv(gym.Env[npt.NDArray[np.float32], npt.NDArray[np.float32]]):
    """A body from a seed, whose task is to move along world +x at 1 m/s; episodes never terminate.

    The reward of a step is that of dm_control's ``RunThroughCorridor`` at a speed of 1 m/s::

        tolerance(v, (1, 1), margin=1, sigmoid="linear", value_at_margin=0) = max(0, 1 - |v - 1|)

    where ``v`` is the velocity along +x of the whole body's centre of mass after the step. ``v`` is not among
    the observation scalars but follows from them by kinematics: :class:`tdm_envs.walkers.task.WalkerTask`.

    Observation: float32 ``[13 + 2 dof]``, see :func:`~tdm_envs.walkers.observation.observation_scalars`.
    Action: float32 ``[dof]`` in [-1, 1], the target angle of each hinge's servo, in units of its range.
    An episode starts near rest just above the floor, heading +x.

    Args:
        family: ``"line"``, ``"chain"``, ``"bush"`` or ``"tree"``; the Gymnasium id already implies it.
        dof: Number of hinges, 4 to 20.
        body: Seed of the body; not the seed of the episode, which is ``reset(seed=)``.
        render_mode: None, ``"rgb_array"`` or ``"human"``.
        width: Width of a frame, in pixels.
        height: Height of a frame, in pixels.

    Raises:
        ValueError: If an argument is out of its range.
        TypeError: If ``dof`` or ``body`` is not an integer.

    Attributes:
        body: The :class:`~tdm_envs.walkers.body.Body`.
        model: ``mujoco.MjModel``.
        data: ``mujoco.MjData``; its Cartesian quantities belong to the present state, its contacts and forces
            to the physics step before.
        frame_skip: Physics steps per environment step.
        observation_names: Names of the observation scalars, in order.
    """

    metadata = {  # noqa: RUF012 (Gymnasium declares it without ClassVar)
        "render_modes": ["human", "rgb_array"],
        "render_fps": round(1.0 / (TIMESTEP * FRAME_SKIP)),
    }

    def __init__(
        self,
        family: str,
        dof: int = 8,
        body: int = 0,
        render_mode: str | None = None,
        width: int = 320,
        height: int = 240,
    ) -> None:
        self._screen = Screen(render_mode, width, height)
        self.body = build_body(family, dof, body)
        self.model: Any = build_spec(self.body).compile()
        self.data: Any = mujoco.MjData(self.model)
        self.frame_skip = FRAME_SKIP
        self.render_mode = render_mode

        dof = self.body.key.dof
        self.observation_names = tuple(scalar.name for scalar in observation_scalars(dof))
        shape = (len(self.observation_names),)
        self.observation_space = spaces.Box(-np.inf, np.inf, shape, np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (dof,), np.float32)
        self._view_data()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Complete a copy, made by ``copy`` or ``pickle``, so that it reads its own data."""
        self.__dict__.update(state)
        self.model = self.data.model  # one object again, since both were copied separately
        self._view_data()

    @property
    def dt(self) -> float:
        """Seconds per environment step."""
        return float(self.model.opt.timestep * self.frame_skip)

    def observe(self, qpos: Array, qvel: Array) -> Array:
        """Observations of any number of states; see :func:`tdm_envs.walkers.observation.observe`."""
        return observe(qpos, qvel)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Begin an episode; ``info`` names the body."""
        super().reset(seed=seed)
        model, data = self.model, self.data
        mujoco.mj_resetData(model, data)
        dof = self.body.key.dof
        data.qpos[7:] = self.np_random.uniform(-RESET_ANGLE, RESET_ANGLE, dof)
        data.qvel[6:] = self.np_random.uniform(-RESET_VELOCITY, RESET_VELOCITY, dof)
        mujoco.mj_kinematics(model, data)
        data.qpos[2] += RESET_CLEARANCE - self._lowest_point()
        self._update_velocity()
        if self.render_mode == "human":
            self.render()
        key = self.body.key
        body = {"family": key.family, "dof": key.dof, "body": key.body}
        return self._observation(), {**body, "structure": self.body.structure_hash()}

    def step(
        self, action: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Advance by :attr:`dt`; ``info["velocity"]`` is ``v`` in m/s.

        Raises:
            ValueError: If the action has another shape or is not finite.
            PhysicsDivergedError: If the state is no longer finite.
        """
        if np.shape(action) != self.action_space.shape:
            raise ValueError(f"action has shape {np.shape(action)}; expected {self.action_space.shape}")
        if not np.isfinite(action).all():
            raise ValueError(f"action is {action}; expected finite numbers")
        data = self.data
        data.ctrl[:] = action
        mujoco.mj_step(self.model, data, self.frame_skip)
        if self._warnings.any():
            self._refuse_divergence()
        self._update_velocity()
        velocity = float(self._velocity[0])
        reward = max(0.0, 1.0 - abs(velocity - TARGET_SPEED))
        if self.render_mode == "human":
            self.render()
        return self._observation(), reward, False, False, {"velocity": velocity}

    def state(self) -> Array:
        """Everything that the future depends on; :meth:`restore` continues to the last bit."""
        state = np.empty(mujoco.mj_stateSize(self.model, _STATE))
        mujoco.mj_getState(self.model, self.data, state, _STATE)
        return state

    def restore(self, state: Array) -> npt.NDArray[np.float32]:
        """Go back to a :meth:`state` of the same body, and return its observation.

        The episode's time limit, which Gymnasium's wrapper counts, is not part of it.

        Raises:
            ValueError: If it is the state of a body with other hinges, or not finite.
        """
        refuse_impossible_state(state, mujoco.mj_stateSize(self.model, _STATE), f"the {self.body.key}")
        mujoco.mj_setState(self.model, self.data, state, _STATE)
        self._warnings[:] = 0
        self._update_velocity()
        return self._observation()

    def render(self) -> npt.NDArray[np.uint8] | None:
        """A frame ``[height, width, 3]``, or None for ``"human"``, where the window shows it."""
        mujoco.mj_camlight(self.model, self.data)  # the camera and the light follow the present state
        return self._screen.draw(self.model, self.data, "track", self.metadata["render_fps"])

    def close(self) -> None:
        """Free the renderer."""
        self._screen.close()

    def _view_data(self) -> None:
        """Keep views into the data, which would otherwise be looked up by name at every step."""
        self._velocity = self.data.subtree_linvel[1]  # body 0 is the world, body 1 the root with all limbs
        self._warnings = self.data.warning.number

    def _observation(self) -> npt.NDArray[np.float32]:
        return observe(self.data.qpos, self.data.qvel).astype(np.float32)

    def _update_velocity(self) -> None:
        """Compute Cartesian quantities and the centre of mass's velocity at the present state.

        ``mj_forward`` is not used: it would overwrite the solver's warm start, which breaks exact replay.
        """
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_comVel(self.model, self.data)
        mujoco.mj_subtreeVel(self.model, self.data)

    def _lowest_point(self) -> float:
        """The height of the lowest point of any limb, in metres; kinematics must be up to date."""
        size = self.model.geom_size[1:]  # geom 0 is the floor; radius, half length
        upright = np.abs(self.data.geom_xmat[1:, 8])  # a capsule's own z is its long axis
        return float((self.data.geom_xpos[1:, 2] - upright * size[:, 1] - size[:, 0]).min())

    def _refuse_divergence(self) -> None:
        fatal = [mujoco.mjtWarning(kind).name for kind in _FATAL if self._warnings[kind]]
        if fatal:
            raise PhysicsDivergedError(
                f"the physics of the {self.body.key} diverged ({', '.join(fatal)}); reset the environment, "
                "and please report the body and the actions"
            )
