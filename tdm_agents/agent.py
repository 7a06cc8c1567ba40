"""The agent: what it remembers, when it decides, and the way to and from the environment's own spaces.

Everything that an episode leaves behind is an :class:`AgentMemory`, a value with one row an environment;
:meth:`TDMAgent.decide` maps a memory and what arrived to the next memory and an action. ``act`` and ``reset``
are a thin shell around it for one environment; batched evaluation calls ``decide`` itself.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tdm_agents import checkpoint
from tdm_agents.memory import AgentMemory, gather, scatter
from tdm_agents.protocols import HasOnly, History, Plan, Planner, WorldModel
from tdm_agents.spaces import ActionCodec, ObservationCodec, difference


@dataclass(frozen=True, slots=True)
class PlanView:
    """The last plan, for progress bars and plots.

    Attributes:
        rows: ``[B']`` int64, the environments that decided.
        history: What was known of them.
        plan: What the planner decided; ``plan.value`` is the imagined value, ``plan.sequence`` the actions.
        milliseconds: Wall-clock time of ``start`` and ``plan`` together, for all rows.
    """

    rows: Tensor
    history: History
    plan: Plan
    milliseconds: float


class TDMAgent:
    """Acts in a Gymnasium environment by planning with a world model.

    Args:
        model: The dynamics to imagine with.
        planner: What chooses among the imagined futures.
        seed: Of the agent's only source of randomness. Same seed and same number of environments, same
            actions.
        env_id: The environment that the agent is for; named in errors and kept by :meth:`save`.
        reward_function: Name of a function of :mod:`tdm_envs.rewards` to plan for, for example
            ``"dm_control/cartpole-swingup-v0"``; without it the model's own reward counts.

    Raises:
        ValueError: If the spaces cannot be planned over, or the model contradicts its own spaces.
        LookupError: If there is no such reward function.

    Attributes:
        model: What is planned with (wrapped in the reward function, where one was named).
        planner: The planner; frozen.
        generator: The source of randomness, on ``model.spec.device``.
        last_plan: The last plan, None before the first one.
    """

    def __init__(
        self,
        model: WorldModel[Any],
        planner: Planner,
        seed: int = 0,
        *,
        env_id: str | None = None,
        reward_function: str | None = None,
    ) -> None:
        self.base_model = model
        self.model = checkpoint.with_reward(model, reward_function) if reward_function else model
        self.planner = planner
        self.env_id = env_id
        self.reward_function = reward_function
        spec = model.spec
        self.observation_codec = ObservationCodec(spec.observation_space)
        self.action_codec = ActionCodec(spec.action_space)
        for what, codec, stated in (
            ("observation_dim", self.observation_codec.dim, spec.observation_dim),
            ("action_dim", self.action_codec.dim, spec.action_dim),
        ):
            if codec != stated:
                raise ValueError(
                    f"{type(model).__name__}.spec.{what} is {stated}, but its space has {codec} scalars; "
                    "build the model for the space that its spec names"
                )
        self.generator = torch.Generator(device=spec.device).manual_seed(seed)
        self.last_plan: PlanView | None = None
        self._memory: AgentMemory | None = None

    # ------------------------------------------------------------------ one environment

    def reset(self, seed: int | None = None) -> None:
        """Begin a new episode: forget the history and the planner's memory.

        Args:
            seed: Seeds the agent's randomness anew; None lets it go on.
        """
        if seed is not None:
            self.generator.manual_seed(seed)
        self._memory = self.initial_memory(1)
        self.last_plan = None

    def act(
        self, obs: Any, *, reward: float | None = None, episode_start: bool | None = None
    ) -> npt.NDArray[Any]:
        """The action for the next environment step. Plans every ``spec.action_repeat`` steps, holds between.

        Args:
            obs: An observation of the environment's own space.
            reward: The reward that arrived with it; None where unknown.
            episode_start: Whether ``obs`` is the first of an episode; True does what :meth:`reset` does.

        Returns:
            An action of the environment's own space: its shape, dtype and bounds.

        Raises:
            RuntimeError: If no episode has begun.
            ValueError: If the observation is not of the space or holds NaN or inf, or the reward is infinite;
                or if no candidate of the planner has a finite score.
        """
        if self._memory is None and not episode_start:
            raise RuntimeError(
                "act() before an episode began: call agent.reset() after env.reset(), "
                "or pass episode_start=True with its first observation"
            )
        if reward is not None and np.isinf(reward):
            raise ValueError(f"reward is {reward}; expected a finite number, or None where unknown")
        spec = self.model.spec
        # validate before touching the memory, so that a refused observation leaves the episode as it was
        observation = self.observation(obs)[None]  # [1, n]
        if episode_start or self._memory is None:
            self.reset()
        memory = self._memory if self._memory is not None else self.initial_memory(1)
        rewards = None if reward is None else torch.tensor([reward], dtype=spec.dtype, device=spec.device)
        self._memory, action = self.decide(memory, observation, reward=rewards)
        return self.environment_action(action[0])

    # ------------------------------------------------------------------ any number of environments

    def initial_memory(self, batch: int) -> AgentMemory:
        """Memory of ``batch`` environments whose episodes have not begun."""
        spec = self.model.spec
        return AgentMemory.empty(spec, batch, self.planner.init(spec, batch))

    def observation(self, obs: Any) -> Tensor:
        """An observation of the environment's space as ``[n]`` on the model's device.

        Raises:
            ValueError: If it is not of the space, or holds NaN or inf.
        """
        flat = self.observation_codec.flatten(obs)
        return torch.from_numpy(flat).to(self.model.spec.device, self.model.spec.dtype)

    def environment_action(self, action: Tensor) -> npt.NDArray[Any]:
        """``[..., m]`` in [-1, 1] in the environment's units, shape and dtype."""
        return self.action_codec.decode(action.detach().cpu().numpy())

    @torch.no_grad()
    def decide(
        self,
        memory: AgentMemory,
        observation: Tensor,
        *,
        reward: Tensor | None = None,
        episode_start: Tensor | None = None,
        active: Tensor | None = None,
    ) -> tuple[AgentMemory, Tensor]:
        """One environment step of ``B`` environments; only those whose held action has run out plan.

        Changes nothing but the generator and :attr:`last_plan`: the memory given stays as it was.

        Args:
            memory: Of ``B`` environments.
            observation: ``[B, n]``, finite.
            reward: ``[B]`` that arrived with it, NaN where unknown; None = unknown everywhere.
            episode_start: ``[B]`` bool, rows to forget first.
            active: ``[B]`` bool; other rows (finished episodes) are left alone, and what is returned for
                them is meaningless.

        Returns:
            The next memory and the action ``[B, m]`` of this environment step.

        Raises:
            ValueError: If the planner finds no finite candidate or returns an action that is not finite.
        """
        if episode_start is not None:
            memory = memory.forget(episode_start)
        if active is None:
            active = torch.ones_like(memory.countdown, dtype=torch.bool)
        arrived = torch.full_like(memory.pending, float("nan")) if reward is None else reward
        memory = replace(memory, pending=torch.where(active, memory.pending + arrived, memory.pending))
        rows = (active & (memory.countdown == 0)).nonzero().squeeze(1)
        if rows.numel() == memory.batch:
            memory = self._plan(memory, observation, rows)
        elif rows.numel():
            part = self._plan(gather(memory, rows), observation[rows], rows)
            memory = scatter(memory, rows, part)
        countdown = torch.where(active, memory.countdown - 1, memory.countdown)
        return replace(memory, countdown=countdown), memory.action[:, -1]

    def _plan(self, memory: AgentMemory, observation: Tensor, rows: Tensor) -> AgentMemory:
        """Decide for every row of ``memory``, which are the environments ``rows`` of the caller."""
        model = self.model
        if isinstance(model, HasOnly):
            model = model.only(rows.tolist())
        elapsed = (memory.length > 0).to(torch.int64)  # every env plans at each decision: 1, or 0 if new
        memory = memory.append(observation)
        history = memory.history()
        began = time.perf_counter()
        state = model.start(history, horizon=self.planner.horizon)
        plan = self.planner.plan(model, state, memory.carry, elapsed=elapsed, generator=self.generator)
        if plan.action.is_cuda:
            torch.cuda.synchronize(plan.action.device)  # otherwise the clock would stop before the plan does
        milliseconds = 1e3 * (time.perf_counter() - began)
        self._check_action(plan.action, memory)
        self.last_plan = PlanView(rows=rows, history=history, plan=plan, milliseconds=milliseconds)
        action = plan.action
        if not self._discrete:
            action = action.clamp(-1.0, 1.0)  # what the environment executes is what the model must read
        return replace(
            memory,
            action=torch.cat([memory.action[:, :-1], action[:, None]], dim=1),
            countdown=torch.full_like(memory.countdown, self.model.spec.action_repeat),
            carry=plan.carry,
        )

    @property
    def _discrete(self) -> bool:
        return self.model.spec.action_kind == "discrete"

    def _check_action(self, action: Tensor, memory: AgentMemory) -> None:
        planner = type(self.planner).__name__
        expected = (memory.batch, self.model.spec.action_dim)
        if action.shape != expected or action.dtype != memory.action.dtype:
            raise ValueError(
                f"{planner}.plan returned an action {tuple(action.shape)} {action.dtype}; "
                f"expected {expected} {memory.action.dtype}: check the planner with "
                "tdm_agents.testing.check_planner"
            )
        if not bool(torch.isfinite(action).all()):
            raise ValueError(
                f"{planner}.plan returned an action that is not finite: {action.tolist()}; "
                "check the planner with tdm_agents.testing.check_planner"
            )

    # ------------------------------------------------------------------ environments and files

    def check_env(self, env: gym.Env[Any, Any]) -> None:
        """Refuse an environment whose spaces are not the model's.

        Raises:
            ValueError: Naming the first difference and the remedy.
        """
        spec = self.model.spec
        for name, ours, theirs in (
            ("observation_space", spec.observation_space, env.observation_space),
            ("action_space", spec.action_space, env.action_space),
        ):
            if found := difference(ours, theirs, name):
                trained = f" ({self.env_id})" if self.env_id else ""
                raise ValueError(
                    f"{found}; pass the environment that the model was made for{trained}, "
                    "without wrappers that change its spaces, or train a model for this one"
                )

    def save(self, folder: str | Path) -> None:
        """Write the model's files and ``agent.json`` to ``folder``; :meth:`load` reads them.

        Raises:
            ValueError: If the model has nothing to save, or the planner is neither installed nor registered
                under a name.
        """
        checkpoint.write(
            Path(folder),
            self.base_model,
            checkpoint.settings_of(self.planner, self.reward_function, self.env_id),
        )

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path,
        planner: str | Planner | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
        **planner_settings: Any,
    ) -> TDMAgent:
        """An agent from a bundled checkpoint or a folder that :meth:`save` wrote.

        Args:
            name_or_folder: A bundled name (``"cartpole-swingup"``), or a path.
            planner: A planner, or the name of one. None: the one that the checkpoint was saved with. Under
                another name the checkpoint's horizon is kept, which belongs to the model and its task.
            seed: Of the agent's randomness.
            device: Where the model computes.
            **planner_settings: Fields of the planner to set differently.

        Raises:
            CheckpointError: If a file is missing, truncated or altered.
            LookupError: If there is no such checkpoint, planner, world model or reward function.
            TypeError: If the planner has no such setting.
        """
        folder = checkpoint.resolve(name_or_folder)
        saved = checkpoint.read_settings(folder)
        chosen = checkpoint.choose_planner(saved, planner, planner_settings)
        return cls(
            checkpoint.load_model(folder, device),
            chosen,
            seed,
            env_id=saved.env_id,
            reward_function=saved.reward_function,
        )
