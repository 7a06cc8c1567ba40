"""The live MuJoCo environments behind a :class:`~tdm_agents.world_models.simulator.SimulatorModel`.

A :class:`LiveEnv` reads one environment's physics state and asks its task for observations and rewards of
imagined states, always on data of its own: the environment is never stepped, written to or reset.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from tdm_agents.env_checks import refuse_shared
from tdm_agents.errors import WrongTypeError, WrongValueError
from tdm_agents.spaces import ActionCodec, ObservationCodec
from tdm_agents.world_models.simulator_stepping import SteppedCopy, can_be_copied
from tdm_agents.world_models.simulator_wrappers import refuse_wrappers

Array = npt.NDArray[np.float64]

FULLPHYSICS = mujoco.mjtState.mjSTATE_FULLPHYSICS.value
CTRL = mujoco.mjtState.mjSTATE_CTRL.value
# inputs that mujoco.rollout takes from the model's defaults: applied forces, mocap bodies and switched
# equalities
_OTHER_INPUTS = mujoco.mjtState.mjSTATE_USER.value & ~CTRL


class LiveEnv:
    """One live environment, read but never disturbed.

    Args:
        env: A dm_control suite environment that came through Shimmy, or a ``gymnasium.Env`` that has
            ``model``, ``data`` and ``frame_skip`` (Gymnasium's ``MujocoEnv`` and its like) and whose actions
            are the actuators' controls.

    Raises:
        TypeError: If it is not backed by MuJoCo in one of these ways.
        ValueError: If wrappers or its task change what it observes or how it acts.

    Attributes:
        observation_space: The observation space that its user sees, wrappers included.
        action_space: Bounds of the actuators' controls.
        sub_steps: Physics steps of one environment step.
        asks_task: Whether :meth:`ask_task` works, that is, whether it has a dm_control task.
        steps: Whether :meth:`stepped_copy` works, that is, whether it is one of Gymnasium's ``MujocoEnv``.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        inner: Any = env.unwrapped
        # Shimmy forwards unknown attributes to dm_control's environment: read only its own
        dm_env = vars(inner).get("_env")
        self._dm: Any = None
        if _is_of_dm_control(dm_env):
            _refuse_inexact(dm_env, env)
            self._dm = dm_env
            self.sub_steps = int(dm_env._n_sub_steps)
        elif (
            isinstance(getattr(inner, "model", None), mujoco.MjModel)
            and isinstance(getattr(inner, "data", None), mujoco.MjData)
            and isinstance(getattr(inner, "frame_skip", None), int)
        ):
            self.sub_steps = int(inner.frame_skip)
        else:
            name = env if env.spec is None else env.spec.id
            raise WrongTypeError(
                f"{name} has no MuJoCo physics that can be rolled out; expected a dm_control suite "
                "environment (gym.make('dm_control/cartpole-swingup-v0') after import tdm_envs) or one with "
                "model, data and frame_skip like gymnasium's MujocoEnv. Plan with a learned world model "
                "instead"
            )
        refuse_wrappers(env)
        _refuse_changed_spaces(env, inner)
        self._inner = inner
        self.asks_task = self._dm is not None
        self.steps = can_be_copied(inner)
        self.observation_space = env.observation_space
        self.action_space = env.action_space
        self._codec = ObservationCodec(_task_space(self._dm) if self.asks_task else inner.observation_space)
        controls = int(np.prod(env.action_space.shape or ()))
        if controls != self.model.nu:
            raise WrongValueError(f"{env} has {controls} action scalars for {self.model.nu} MuJoCo actuators")
        self._bind()

    @property
    def model(self) -> mujoco.MjModel:
        """The live model itself, so that changes that tasks make at reset (reacher, finger, ...) are seen."""
        return self._dm.physics.model.ptr if self.asks_task else self._inner.model

    @property
    def _data(self) -> mujoco.MjData:
        return self._dm.physics.data.ptr if self.asks_task else self._inner.data

    def _bind(self) -> None:
        """Make everything that belongs to one ``MjModel`` object."""
        model = self.model
        self._bound = model
        self._scratch: Any = self._dm.physics.copy(share_model=True) if self.asks_task else None
        self._workers: dict[int, mujoco.MjData] = {}
        self._copies: dict[int, SteppedCopy] = {}
        self._other_inputs = _read(model, mujoco.MjData(model), _OTHER_INPUTS)

    def read(self) -> tuple[Array, Array]:
        """The present ``FULLPHYSICS`` state ``[nstate]`` and warm start of the solver ``[nv]``.

        Raises:
            ValueError: If the environment applies forces, moves mocap bodies or switches equalities.
        """
        if self.model is not self._bound:  # the environment compiled another model at its reset
            self._bind()
        model, data = self._bound, self._data
        if not np.array_equal(_read(model, data, _OTHER_INPUTS), self._other_inputs):
            raise WrongValueError(
                f"{self._inner} drives its physics by more than the actuators (applied forces, mocap bodies "
                "or switched equality constraints), which the simulator cannot foresee; plan with a learned "
                "model"
            )
        return _read(model, data, FULLPHYSICS), np.array(data.qacc_warmstart)

    def worker_data(self, worker: int) -> mujoco.MjData:
        """The data with which one thread rolls out."""
        if worker not in self._workers:
            self._workers[worker] = mujoco.MjData(self._bound)
        return self._workers[worker]

    def stepped_copy(self, worker: int) -> SteppedCopy:
        """The copy of the environment that one thread steps."""
        if worker not in self._copies:
            self._copies[worker] = SteppedCopy(self._inner)
        return self._copies[worker]

    def ask_task(
        self, physics: Array, ctrl: Array, every: int, *, observations: bool
    ) -> tuple[npt.NDArray[np.float32], Array]:
        """Observations and rewards of states, from the task's own Python; about 50 microseconds per state.

        Exact where observation and reward are functions of position, velocity, activation and control.
        Accelerations are recomputed at the state itself; the environment's own sensors of acceleration
        (quadruped) lag by one physics step.

        Args:
            physics: ``[T, nstate]``, the state after each environment step.
            ctrl: ``[T, nu]``, the controls of these steps.
            every: Observations are made after every ``every``-th step.
            observations: Whether observations are made at all.

        Returns:
            Flat observations ``[T // every, n]`` and rewards ``[T]``.
        """
        model, data, task = self._bound, self._scratch.data.ptr, self._dm.task
        observed = np.empty((len(physics) // every if observations else 0, self._codec.dim), np.float32)
        reward = np.empty(len(physics))
        for t, (state, control_input) in enumerate(zip(physics, ctrl, strict=True)):
            mujoco.mj_setState(model, data, state, FULLPHYSICS)
            data.ctrl[:] = control_input
            mujoco.mj_forward(model, data)
            reward[t] = task.get_reward(self._scratch)
            if observations and (t + 1) % every == 0:
                observation = task.get_observation(self._scratch)
                if self._dm._flat_observation:
                    observation = sys.modules["dm_control.rl.control"].flatten_observation(observation)
                observed[t // every] = self._codec.flatten(observation)
        return observed, reward


def _is_of_dm_control(dm_env: Any) -> bool:
    # where nobody has imported dm_control, which not every Python can install, nothing is of it
    control = sys.modules.get("dm_control.rl.control")
    return control is not None and isinstance(dm_env, control.Environment)


def _task_space(dm_env: Any) -> spaces.Dict:
    """The task's own observation space; the environment may have flattened it."""
    observed = dm_env.observation_spec()
    return spaces.Dict({key: spaces.Box(-np.inf, np.inf, spec.shape) for key, spec in observed.items()})


def live_envs(env: Any) -> tuple[LiveEnv, ...]:
    """The live environments in any form that a user may pass.

    Args:
        env: A ``gymnasium.Env``, a list of them, a ``SyncVectorEnv`` or an SB3 ``DummyVecEnv``.

    Raises:
        TypeError: For anything else, with the remedy.
        ValueError: If there is none, two are the same object, or their spaces or physics steps differ.
    """
    members = _members(env)
    refuse_shared(members)
    found = tuple(LiveEnv(e) for e in members)
    if not found:
        raise WrongValueError("no environment to simulate: expected at least one in the list")
    for index, live in enumerate(found):
        same = (live.observation_space, live.action_space, live.sub_steps, live.model.nq, live.model.nv)
        first = found[0]
        if same != (
            first.observation_space,
            first.action_space,
            first.sub_steps,
            first.model.nq,
            first.model.nv,
        ):
            raise WrongValueError(
                f"environment {index} has other spaces or physics than environment 0; build a model of each"
            )
    return found


def _members(env: Any) -> Sequence[gym.Env[Any, Any]]:
    if isinstance(env, gym.Env):
        return [env]
    if isinstance(env, list | tuple) and all(isinstance(e, gym.Env) for e in env):
        return env
    # an SB3 vector environment can only exist if its module is already imported
    sb3 = sys.modules.get("stable_baselines3.common.vec_env")
    if isinstance(env, gym.vector.SyncVectorEnv) or (sb3 is not None and isinstance(env, sb3.DummyVecEnv)):
        members: Sequence[gym.Env[Any, Any]] = env.envs
        return members
    raise WrongTypeError(
        f"{type(env).__name__} cannot be simulated: expected a gymnasium.Env, a list of them, SyncVectorEnv "
        "or SB3's DummyVecEnv, whose physics live in this process. Take the vector environment out of its "
        "wrappers (env.unwrapped), and replace AsyncVectorEnv or SubprocVecEnv by the synchronous one"
    )


def _refuse_inexact(dm_env: Any, env: Any) -> None:
    """Refuse environments whose step is more than ``ctrl = action`` and ``n_sub_steps`` of physics."""
    from dm_control.suite import base  # here: dm_control is not installed everywhere

    task = type(dm_env.task)
    for name in ("before_step", "after_step"):
        if getattr(task, name) is not getattr(base.Task, name):
            raise WrongValueError(
                f"{env}: its task {task.__name__} overrides {name}, which the simulator cannot batch; use a "
                "task that leaves dm_control.suite.base.Task's, or plan with a learned world model"
            )
    if not dm_env.physics.legacy_step:
        raise WrongValueError(
            f"{env} was built with legacy_step=False, so its observations lag the physics; leave it at True"
        )


def _refuse_changed_spaces(env: gym.Env[Any, Any], inner: gym.Env[Any, Any]) -> None:
    """Refuse wrappers that change a space; flattening is allowed, since the flat vector is the same."""
    observation, action = inner.observation_space, inner.action_space
    if env.observation_space not in (observation, spaces.flatten_space(observation)):
        raise WrongValueError(
            f"wrappers of {env} change its observation space from {observation} to {env.observation_space}; "
            "the simulator knows the environment's own. Build it with the environment inside those wrappers"
        )
    if env.action_space != action:
        raise WrongValueError(
            f"wrappers of {env} change its action space from {action} to {env.action_space}; take the action "
            "wrapper off (the agent scales actions from [-1, 1] itself)"
        )
    ActionCodec(action)


def _read(model: mujoco.MjModel, data: mujoco.MjData, what: int) -> Array:
    state = np.empty(mujoco.mj_stateSize(model, what))
    mujoco.mj_getState(model, data, state, what)
    return state
