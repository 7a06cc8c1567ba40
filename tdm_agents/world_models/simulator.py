"""The true dynamics as a world model: MuJoCo rolled out from the live environment's own state.

It is the upper bound of every comparison, the expert of data collection and the model of planner tests.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from mujoco.rollout import Rollout as MujocoRollout
from torch import Tensor

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import History, ModelSpec, Rollout, Step
from tdm_agents.spaces import ActionCodec, ObservationCodec
from tdm_agents.world_models.simulator_env import CTRL, Array, LiveEnv, live_envs


class BatchedTask(Protocol):
    """Observations and rewards of a task for all rows at once, instead of by its Python code row by row."""

    def observe(self, qpos: Array, qvel: Array, /) -> Array:
        """Observations ``[..., n]``, float64, of positions ``[..., nq]`` and velocities ``[..., nv]``."""
        ...

    @property
    def reward(self) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
        """The exact reward of one environment step; None asks the task itself, row by row."""
        ...


@dataclass(slots=True)
class SimulatorState:
    """Physics states of ``N`` rows: a value with one owner.

    Attributes:
        physics: ``[N, nstate]`` MuJoCo's FULLPHYSICS (time, positions, velocities, activations, ...); NaN
            where the physics diverged.
        warmstart: ``[N, nv]``, start of the constraint solver; without it results differ in the last bits.
        env: ``[N]`` int64, the environment that each row was read from.
        ended: ``[N]`` bool, whether the episode terminated in what was imagined.
        consumed: Whether ``step`` or ``rollout`` has consumed it.
    """

    physics: Array
    warmstart: Array
    env: npt.NDArray[np.int64]
    ended: npt.NDArray[np.bool_]
    consumed: bool = False


class SimulatorModel:
    """World model over the true dynamics of MuJoCo-backed environments.

    ``start`` reads the live environments (row ``b`` from environment ``b``) and ignores what the history
    says. ``rollout`` is bit-exact with stepping the environment where the task's observation and reward are
    functions of position, velocity, activation and control: cartpole, walker, humanoid, cheetah, reacher (not
    quadruped, which observes accelerations). Gymnasium's own MuJoCo environments are stepped as copies, which
    say themselves when an episode terminates; elsewhere ``alive`` stays True. Time limits are not
    terminations. A row whose physics diverge (where dm_control would raise) observes NaN and earns NaN from
    then on.

    Args:
        env: A ``gymnasium.Env``, a list of them, a ``SyncVectorEnv`` or an SB3 ``DummyVecEnv``.
        action_repeat: Environment steps per decision; their rewards are summed.
        threads: Threads to roll out on; 0 and 1 both mean the calling thread.
        fast: Observations (and rewards) of all rows at once, for example
            ``tdm_envs.suite.batched_task(env_id)``, of tasks that do not end; None asks the dm_control task,
            or steps a copy of Gymnasium's ``MujocoEnv``, row by row, which takes about 50 microseconds per
            environment step. Other environments need it.

    Raises:
        TypeError: If ``env`` cannot be simulated; the message names the remedy.
        ValueError: If the physics cannot be predicted because of wrappers or the task, or a setting makes
            no sense.
    """

    def __init__(
        self, env: Any, action_repeat: int = 1, threads: int = 1, fast: BatchedTask | None = None
    ) -> None:
        if action_repeat < 1:
            raise WrongValueError(
                f"action_repeat is {action_repeat}; expected at least 1 environment step per decision"
            )
        if threads < 0:
            raise WrongValueError(f"threads is {threads}; expected 0 or 1 (the calling thread) or more")
        self._envs: tuple[LiveEnv, ...] = live_envs(env)
        first = self._envs[0]
        self._stepped = first.steps and fast is None
        if not (first.asks_task or self._stepped) and (fast is None or fast.reward is None):
            raise WrongValueError(
                f"{env} has no dm_control task to ask for observations and rewards, and is no MujocoEnv of "
                "Gymnasium's to step a copy of; pass fast=, a BatchedTask with observe and reward"
            )
        dim = ObservationCodec(first.observation_space).dim
        if fast is not None:
            observed = fast.observe(np.zeros(first.model.nq), np.zeros(first.model.nv)).shape
            if observed != (dim,):
                raise WrongValueError(
                    f"fast observes {list(observed)} scalars, but {env} has {dim}; is it for another task?"
                )
        self._fast = fast
        self._threads = max(threads, 1)
        self._rollouts = [MujocoRollout(nthread=0) for _ in range(self._threads)]
        self._pool = ThreadPoolExecutor(threads, "simulator") if threads > 1 else None
        self._rows = np.arange(len(self._envs))
        self._codec = ActionCodec(first.action_space)
        self._spec = ModelSpec(
            observation_space=first.observation_space,
            action_space=first.action_space,
            observation_dim=dim,
            action_dim=self._codec.dim,
            action_repeat=action_repeat,
            terminates=self._stepped,
        )

    @property
    def spec(self) -> ModelSpec:
        """Spaces, sizes and time step; on the CPU in float32."""
        return self._spec

    def only(self, rows: Sequence[int] | npt.NDArray[np.int64] | Tensor) -> SimulatorModel:
        """The same model over some of its environments, for when only they decide.

        Args:
            rows: Indices into this model's environments.

        Raises:
            IndexError: If there is no such environment.
        """
        other = copy.copy(self)
        other._rows = self._rows[np.asarray(rows, np.int64)]
        return other

    def start(self, history: History, *, horizon: int) -> SimulatorState:
        """The live environments' present state.

        Args:
            history: Only its number of environments is read, to check it.
            horizon: Unused: nothing has to be allocated ahead.

        Raises:
            ValueError: If ``history`` has another number of environments.
        """
        if history.batch != len(self._rows):
            raise ValueError(
                f"history has {history.batch} environments, this simulator {len(self._rows)}; where only "
                "some decide, start model.only(rows)"
            )
        physics, warmstart = zip(*(self._envs[e].read() for e in self._rows), strict=True)
        ended = np.zeros(len(self._rows), bool)
        return SimulatorState(np.stack(physics), np.stack(warmstart), self._rows.copy(), ended)

    def take(self, state: SimulatorState, rows: Tensor) -> SimulatorState:
        """Copies of the given rows (int64 ``[N']``, repeats allowed); ``state`` stays usable.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        _refuse_consumed(state)
        index = rows.cpu().numpy()
        return SimulatorState(
            state.physics[index], state.warmstart[index], state.env[index], state.ended[index]
        )

    def step(
        self, state: SimulatorState, action: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[SimulatorState, Step]:
        """One decision per row: a rollout of horizon 1.

        Args:
            state: ``N`` rows; consumed.
            action: ``[N, m]``; values outside [-1, 1] are clipped.
            generator: Unused: the physics are deterministic.

        Raises:
            ValueError: If ``action`` has another shape or contains NaN.
            RuntimeError: If ``state`` was consumed.
        """
        if action.ndim != 2:
            raise ValueError(f"action has shape {tuple(action.shape)}; expected [N, m]")
        result = self.rollout(state, action[:, None], generator=generator)
        after: SimulatorState = result.state
        assert result.observation is not None
        return after, Step(result.observation[:, 0], result.reward[:, 0], result.alive[:, 0])

    def rollout(
        self, state: SimulatorState, actions: Tensor, *, generator: torch.Generator | None = None
    ) -> Rollout:
        """Execute ``actions`` ``[N, H, m]`` in [-1, 1] in the true physics; consumes ``state``.

        Args:
            state: ``N`` rows.
            actions: Values outside [-1, 1] are clipped, as the environment's bounds are.
            generator: Unused: the physics are deterministic.

        Raises:
            ValueError: If ``actions`` has another shape or contains NaN.
            RuntimeError: If ``state`` was consumed.
        """
        _refuse_consumed(state)
        count, repeat = len(state.env), self._spec.action_repeat
        wanted = (count, max(actions.shape[1], 1), self._spec.action_dim) if actions.ndim == 3 else None
        if tuple(actions.shape) != wanted:
            raise ValueError(
                f"actions have shape {tuple(actions.shape)}; expected [{count}, H, {self._spec.action_dim}], "
                "H at least 1"
            )
        if bool(actions.isnan().any()):
            row = int(actions.isnan().flatten(1).any(1).nonzero()[0])
            raise ValueError(f"actions of row {row} contain NaN; check the planner's samples")
        state.consumed = True

        decisions = self._codec.decode(actions.detach().cpu().numpy())
        decisions = decisions.reshape(count, actions.shape[1], self._spec.action_dim)
        if self._stepped:
            observation, reward, alive, after = self._step_copies(state, decisions)
        else:
            # [N, T, m], T = H * action_repeat environment steps
            ctrl = np.repeat(decisions.astype(np.float64), repeat, axis=1)
            physics, after = self._simulate(state, ctrl)
            observation, reward = self._perceive(state, physics, ctrl)
            alive = np.ones(decisions.shape[:2], bool)
        total = np.zeros((count, actions.shape[1]))
        for i in range(repeat):  # added in the order of a loop over the environment
            total += reward[:, i::repeat]
        return Rollout(
            observation=torch.from_numpy(observation),
            reward=torch.from_numpy(total.astype(np.float32)),
            alive=torch.from_numpy(alive),
            state=after,
        )

    def _step_copies(
        self, state: SimulatorState, decisions: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[np.float32], Array, npt.NDArray[np.bool_], SimulatorState]:
        """Observations ``[N, H, n]``, rewards of every environment step ``[N, T]``, alive and the last state.

        Rows whose episode has ended are not stepped: they observe and earn 0.
        """
        count, horizon = decisions.shape[:2]
        repeat = self._spec.action_repeat
        observation = np.zeros((count, horizon, self._spec.observation_dim), np.float32)
        reward = np.zeros((count, horizon * repeat))
        alive = np.zeros((count, horizon), bool)
        after = SimulatorState(state.physics.copy(), state.warmstart.copy(), state.env, state.ended.copy())

        def run(worker: int) -> None:
            for n in range(worker, count, self._threads):
                if state.ended[n]:
                    continue
                env = self._envs[state.env[n]].stepped_copy(worker)
                played = env.play(state.physics[n], state.warmstart[n], decisions[n], repeat)
                observation[n], reward[n], alive[n] = played.observation, played.reward, played.alive
                after.physics[n], after.warmstart[n] = played.physics, played.warmstart
                after.ended[n] = not played.alive[-1]

        self._share(run)
        return observation, reward, alive, after

    def _simulate(self, state: SimulatorState, ctrl: Array) -> tuple[Array, SimulatorState]:
        """Physics after every environment step ``[N, T, nstate]``, NaN once diverged, and the last state.

        There is one ``mujoco.rollout`` per row rather than one for all: the data then still hold that row's
        last warm start and warnings, which ``mujoco.rollout`` does not return. A call costs some
        microseconds, the physics of a row hundreds; threads share the rows.
        """
        sub = self._envs[0].sub_steps
        inputs = np.repeat(ctrl, sub, axis=1)  # [N, T * sub, m]
        physics = np.full((len(ctrl), inputs.shape[1], state.physics.shape[1]), np.nan)
        after = SimulatorState(
            np.full_like(state.physics, np.nan), np.zeros_like(state.warmstart), state.env, state.ended
        )

        def run(worker: int) -> None:
            simulate = self._rollouts[worker].rollout_.rollout
            for n in range(worker, len(ctrl), self._threads):
                if np.isnan(state.physics[n]).any():
                    continue  # diverged before
                env, row = self._envs[state.env[n]], slice(n, n + 1)
                data, out = env.worker_data(worker), physics[row]
                simulate(
                    [env.model],
                    [data],
                    inputs.shape[1],
                    CTRL,
                    state.physics[row],
                    state.warmstart[row],
                    inputs[row],
                    out,
                    None,  # sensors: they lag one physics step
                    None,
                )
                if data.warning.number.any():
                    # MuJoCo resets the data where the physics diverge, and the rollout repeats that state
                    # from there on
                    time = out[0, :, 0]
                    frozen = np.flatnonzero(time[1:] == time[:-1])
                    out[0, frozen[0] if frozen.size else -1 :] = np.nan
                else:
                    after.physics[n] = out[0, -1]
                    after.warmstart[n] = data.qacc_warmstart

        self._share(run)
        return physics[:, sub - 1 :: sub], after

    def _share(self, run: Callable[[int], None]) -> None:
        """Call ``run(worker)`` once per thread."""
        if self._pool is None:
            run(0)
        else:
            list(self._pool.map(run, range(self._threads)))

    def _perceive(
        self, state: SimulatorState, physics: Array, ctrl: Array
    ) -> tuple[npt.NDArray[np.float32], Array]:
        """Observations after every decision ``[N, H, n]``, rewards of every environment step ``[N, T]``."""
        repeat = self._spec.action_repeat
        fast = self._fast
        if fast is None:
            return self._ask_tasks(state.env, physics, ctrl, observations=True)
        model = self._envs[0].model
        known = np.concatenate([state.physics[:, None], physics], axis=1)  # [N, 1 + T, nstate]
        velocity = 1 + model.nq  # FULLPHYSICS: time, qpos, qvel, ...
        seen = fast.observe(known[..., 1:velocity], known[..., velocity : velocity + model.nv])
        observation = np.ascontiguousarray(seen[:, repeat::repeat], np.float32)
        if fast.reward is None:
            return observation, self._ask_tasks(state.env, physics, ctrl, observations=False)[1]
        before, acted, next_ = (torch.from_numpy(x).flatten(0, 1) for x in (seen[:, :-1], ctrl, seen[:, 1:]))
        reward = fast.reward(before, acted, next_).numpy().reshape(ctrl.shape[:2])
        # a reward function may map NaN to a number, which a diverged row must not earn
        return observation, np.where(np.isnan(physics[..., 0]), np.nan, reward)

    def _ask_tasks(
        self, env: npt.NDArray[np.int64], physics: Array, ctrl: Array, *, observations: bool
    ) -> tuple[npt.NDArray[np.float32], Array]:
        repeat = self._spec.action_repeat
        horizon = ctrl.shape[1] // repeat
        observation = np.full((len(env), horizon, self._spec.observation_dim), np.nan, np.float32)
        reward = np.full(ctrl.shape[:2], np.nan)
        for n, e in enumerate(env):
            good = int(np.isfinite(physics[n, :, 0]).sum())  # a row that has diverged stays so
            seen, earned = self._envs[e].ask_task(
                physics[n, :good], ctrl[n, :good], repeat, observations=observations
            )
            observation[n, : len(seen)] = seen
            reward[n, :good] = earned
        return observation, reward


def _refuse_consumed(state: SimulatorState) -> None:
    if state.consumed:
        raise RuntimeError(
            "this simulator state was consumed by step or rollout; take its rows before, to keep it"
        )
