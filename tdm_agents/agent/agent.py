"""The agent: what it remembers, when it decides, and how it translates to and from the environment's spaces.

Everything that an episode leaves behind is an :class:`AgentMemory`, a value with one row per environment.
:meth:`TDMAgent.decide` maps a memory and what arrived to the next memory and an action. ``act``, ``reset``
and ``predict`` are thin shells around it; batched evaluation calls ``decide`` itself.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, overload

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from tdm_agents.agent import agent_files, hub
from tdm_agents.agent.argument_checks import (
    check_codecs,
    check_deadline,
    check_planner,
    check_replan_every,
    integer_seed,
)
from tdm_agents.agent.attach import AttachedEnv, AttachedVectorEnv, Link, check_spaces, link_to
from tdm_agents.agent.background import Background, check_background
from tdm_agents.agent.deciding import PlanView, decide
from tdm_agents.agent.discounts import discounted
from tdm_agents.agent.env_wrappers import refuse_hidden_changes
from tdm_agents.agent.feedback import Feedback, Flags, flags
from tdm_agents.agent.memory import AgentMemory, carry_flaw
from tdm_agents.agent.model_card import write_card
from tdm_agents.agent.own_goal import OwnGoal
from tdm_agents.agent.predict import PredictState, checked_state, for_determinism
from tdm_agents.agent.prompt import checked
from tdm_agents.agent.reward_choice import check_reward, vet_reward, with_reward
from tdm_agents.errors import (
    UnknownNameError,
    WrongOrderError,
    WrongTypeError,
    WrongValueError,
    brief,
    is_mistake,
)
from tdm_agents.protocols import (
    Deadline,
    History,
    Pace,
    Planner,
    RewardFn,
    WorldModel,
    reads_images,
)
from tdm_agents.spaces import ObservationCodec, action_codec

PREDICTED = "predicted"
"""The reward that a model predicts itself, as a ``reward_function`` of :meth:`TDMAgent.load`."""


class TDMAgent:
    """An agent that acts in Gymnasium environments by planning with a world model.

    One agent acts in one environment or, batched, in the ``B`` environments of one vector environment: pass
    :meth:`act` what the environment returned. You tell it where episodes begin (:meth:`reset`,
    ``episode_start=``), or the environment that :meth:`attach` returns does. :meth:`predict` is for
    Stable-Baselines3's loops and remembers nothing in the agent.

    Args:
        model: The dynamics to imagine with.
        planner: What chooses among the imagined futures.
        seed: Seed of the agent's only source of randomness. The same seed and number of environments give
            the same actions.
        env_id: The environment that the agent is for; named in errors and kept by :meth:`save`.
        reward_function: Reward to plan for instead of the model's own: a function
            ``fn(observation[N, n], action[N, m], next_observation[N, n]) -> reward[N]`` of tensors, with
            actions in the environment's units; or its name, which an installed package provides, is one of
            :mod:`tdm_envs.rewards` (for example ``"dm_control/cartpole-swingup-v0"``), or is
            ``"module:function"``. Columns of observations have names, see
            :class:`tdm_agents.protocols.columns.Columns`.
        replan_every: Decisions per plan: 1 plans at every decision, ``k`` executes the first ``k`` actions of
            a plan, in open loop, before it makes the next one. At the start of an episode it always plans.
        deadline: Seconds that a decision may take (of all environments together, when batched). The planner
            imagines as much as it expects to fit, and returns the best plan that it has when time is up;
            :attr:`last_plan` tells by how much it was late. Actions then depend on the speed of the machine.

    Raises:
        TypeError: If ``planner`` is not a planner, or its horizon, ``seed`` or ``replan_every`` is not an
            integer, or it cannot stop early although there is a ``deadline``.
        ValueError: If the spaces cannot be planned over, the model contradicts its own spaces, the reward
            function is of another body or the model imagines no observations for it to read, the planner's
            horizon is less than 1, ``replan_every`` is not from 1 to the horizon, or ``deadline`` is not more
            than 0.
        LookupError: If there is no such reward function.
        ImportError: If the named module does not exist.

    Attributes:
        model: The model that is planned with (wrapped in the reward function, where one was named).
        planner: The planner; frozen.
        replan_every: Decisions per plan.
        deadline: Seconds per decision, or None.
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
        reward_function: str | RewardFn | None = None,
        replan_every: int = 1,
        deadline: float | None = None,
    ) -> None:
        check_planner(planner)
        seed = integer_seed(seed)
        check_replan_every(replan_every, planner)
        check_deadline(deadline, planner)
        self.base_model = model
        self.model = model if reward_function is None else with_reward(model, reward_function, env_id)
        self.planner = planner
        self.replan_every = replan_every
        self.deadline = deadline
        self.env_id = env_id
        self.reward_function = reward_function
        self.observation_codec = ObservationCodec(model.spec.observation_space, images=reads_images(model))
        self.action_codec = action_codec(model.spec.action_space)
        check_codecs(model, self.observation_codec, self.action_codec)
        self.generator = torch.Generator(device=model.spec.device).manual_seed(seed)
        self.last_plan: PlanView | None = None
        self._pace = Pace()
        self._memory: AgentMemory | None = None
        self._prompt: History | None = None  # what episodes begin with
        self._goal: OwnGoal | None = None
        self._begins = False  # whether the next observations begin episodes, in any number of environments
        self._link: Link | None = None
        self._background: Background | None = None

    # ------------------------------------------------------------------ acting

    def reset(
        self,
        seed: int | None = None,
        *,
        mask: npt.ArrayLike | None = None,
        history: History | None = None,
        goal: npt.ArrayLike | None = None,
    ) -> None:
        """Begin new episodes: forget history and planner memory of all environments, or of some.

        Args:
            seed: New seed of the agent's randomness; None lets it go on.
            mask: ``[B]`` bool, the environments that were reset; the others go on. None = all, whatever
                number of environments the next observation is of.
            history: What every episode begins with from now on, as if it had just happened. With the planner
                ``policy`` this is the TDM paper's prompted agent, which continues an expert's episode in its
                manner (arXiv:2305.10912). One row for all environments, or one per environment; the last
                observation, after which nothing was done, is left out. It stays until the next ``reset()`` of
                all environments.
            goal: What the agent sees as ``desired_goal`` from now on, instead of what the environment says,
                where observations hold a goal (:mod:`tdm_agents.spaces.goals`). One for all environments, or
                one per environment. It stays until the next ``reset()`` of all environments.

        Raises:
            TypeError: If ``seed`` is not an integer, or ``history`` is no :class:`History`.
            ValueError: If ``mask`` is of another number of environments than the agent acts in, or is given
                together with ``history`` or ``goal``, ``history`` is not of the model's observations and
                actions, or ``goal`` is not of its goals.
            RuntimeError: If ``mask`` is given before any episode began.
        """
        if mask is not None and self._memory is None and not self._begins:
            raise WrongOrderError("reset(mask=...) before an episode began: call reset() without it first")
        for name, given in (("history", history), ("goal", goal)):
            if mask is not None and given is not None:
                raise WrongValueError(
                    f"reset() is given mask and {name}; expected one: every episode has the same {name}"
                )
        own_goal = None if goal is None else OwnGoal.of(goal, self.model.spec)
        prompt = None if history is None else checked(history, self.model.spec)
        if seed is not None:
            self.generator.manual_seed(integer_seed(seed))
        if mask is None:
            self._prompt, self._goal = prompt, own_goal
            self._memory, self._begins, self.last_plan = None, True, None
        elif self._memory is not None:
            rows = flags("mask", mask, self._memory.batch, default=False)
            self._memory = self._memory.forget(torch.from_numpy(rows).to(self.model.spec.device))

    def act(
        self,
        obs: Any,
        *,
        reward: npt.ArrayLike | None = None,
        episode_start: npt.ArrayLike | None = None,
        active: npt.ArrayLike | None = None,
    ) -> Any:
        """The action for the next environment step.

        The agent decides at every ``spec.action_repeat``-th step of an episode and holds the action in
        between. Every ``replan_every``-th decision makes a plan, and the others follow it.

        Args:
            obs: An observation of the environment's own space, or the observations of ``B`` environments,
                stacked as a vector environment returns them.
            reward: The reward that arrived with it, ``[B]`` if batched. Unknown rewards are None, or NaN in
                an array (a single NaN is refused).
            episode_start: Whether ``obs`` is the first of an episode, ``[B]`` if batched; True does what
                :meth:`reset` does, for those environments.
            active: ``[B]``, False for environments that will not execute the action: with autoreset
                ``NEXT_STEP`` those that have just ended, with ``DISABLED`` those that wait for their reset.
                Nothing is planned for them, their observation is not read, and the action returned for them
                is an arbitrary one of the space. None = all are active.

        Returns:
            An action of the environment's own space, in its shape, dtype and bounds; batched if ``obs`` is. A
            single ``Discrete`` action is a NumPy integer.

        Raises:
            RuntimeError: If no episode has begun, or the attached environment has not moved.
            ValueError: If the observation is not of the space or holds NaN or inf, or is of no environments
                or of another number than the episodes under way; if the reward is infinite or a single NaN;
                if arguments repeat what an attached environment tells; or if no candidate of the planner has
                a finite score.
        """
        device = self.model.spec.device
        batch = self.observation_codec.batch_of(obs)
        # everything is validated before the memory, so that what is refused leaves the episode as it was
        feedback = self._feedback(1 if batch is None else batch, reward, episode_start, active)
        memory = self._memory_of(feedback)
        observation = self.observations(obs, feedback.active)  # [B, n]
        memory, action = self._decide(
            memory,
            observation,
            reward=torch.from_numpy(feedback.reward).to(device, memory.pending.dtype),
            episode_start=torch.from_numpy(feedback.start).to(device),
            active=torch.from_numpy(feedback.active).to(device),
            background=self._background,
        )
        self._memory, self._begins = memory, False
        if self._link is not None:
            self._link.read()
        if batch is not None:
            return self.environment_action(action)
        single = self.environment_action(action[0])
        # environments look discrete actions up in dicts and lists, where an array of no axes will not do
        return single[()] if self.model.spec.action_kind == "discrete" else single

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: npt.ArrayLike | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], Any]:
        """Actions as Stable-Baselines3's policies give them, for ``evaluate_policy`` and ``VecEnv`` loops.

        All memory is in ``state``: the agent's own episode (:meth:`act`) and other states go on undisturbed.
        The random numbers of the first state begin where :attr:`generator` stands. So a call with
        ``state=None`` does what :meth:`reset` and :meth:`act` would do, and an evaluation repeats itself
        until the agent gets another seed. Without a state (``predict(obs)[0]``) every call plans from
        scratch, with the same random numbers. No argument brings rewards: they are unknown to the model.

        Args:
            observation: As for :meth:`act`, single or batched; a ``Dict`` is a dict of arrays.
            state: What the last call returned; None at the first.
            episode_start: ``[B]`` bool, environments whose observation is the first of an episode. Copied.
            deterministic: True executes the planner's best (or mean) sequence, False a sample of its last
                candidates, where the planner has the setting ``execute`` (CEM, MPPI); see
                :func:`tdm_agents.agent.predict.for_determinism`. :meth:`act` does what the setting says.

        Returns:
            Actions as an array of the space's dtype, inside its bounds, batched if the observation is; and
            the next state, which is opaque.

        Raises:
            TypeError: If ``state`` is anything else than what a call returned.
            ValueError: If the observation is not of the space or holds NaN or inf, or ``state`` or
                ``episode_start`` is of another number of environments.
        """
        batch = self.observation_codec.batch_of(observation)
        rows = 1 if batch is None else batch
        feedback = Feedback.checked(rows, episode_start=episode_start)
        former = None if state is None else checked_state(state, rows)
        device = self.model.spec.device
        generator = torch.Generator(device=device)
        generator.set_state(self.generator.get_state() if former is None else former.random)
        memory, action = self.decide(
            self.initial_memory(rows) if former is None else former.memory,
            self.observations(observation),
            episode_start=torch.from_numpy(feedback.start).to(device),
            generator=generator,
            planner=for_determinism(self.planner, deterministic),
        )
        played = self.environment_action(action)
        after = PredictState(memory, generator.get_state())
        return played if batch is not None else np.asarray(played[0]), after

    def _feedback(self, batch: int, reward: Any, episode_start: Any, active: Any) -> Feedback:
        if self._link is None:
            return Feedback.checked(batch, reward, episode_start, active)
        for name, value in (("reward", reward), ("episode_start", episode_start), ("active", active)):
            if value is not None:
                raise WrongValueError(
                    f"{name}= is given, but the attached environment tells it: leave it out"
                )
        return self._link.feedback(batch)

    def _memory_of(self, feedback: Feedback) -> AgentMemory:
        batch = len(feedback.start)
        if self._memory is not None and self._memory.batch == batch:
            return self._memory
        if self._begins or feedback.start.all():
            return self.initial_memory(batch)
        if self._memory is None:
            raise WrongOrderError(
                "act() before an episode began: call agent.reset() after env.reset(), "
                "or pass episode_start=True with its first observation"
            )
        raise WrongValueError(
            f"the observation is of {batch} environments, the episodes under way of {self._memory.batch}; "
            "call agent.reset() to begin in another number of environments"
        )

    # ------------------------------------------------------------------ any number of environments

    @property
    def prompt(self) -> History | None:
        """What episodes begin with, as :meth:`reset` was told (``history``)."""
        return self._prompt

    def initial_memory(self, batch: int) -> AgentMemory:
        """Memory of ``batch`` environments whose episodes have not begun.

        Raises:
            TypeError: If the planner's ``init`` returns something else than a memory of as many environments.
        """
        spec = self.model.spec
        carry = self.planner.init(spec, batch)
        flaw = carry_flaw(carry, batch)
        if flaw is not None:
            raise WrongTypeError(
                f"{type(self.planner).__name__}.init: {flaw}; check the planner with "
                "tdm_agents.testing.check_planner"
            )
        return AgentMemory.empty(spec, batch, carry, replan_every=self.replan_every)

    def observation(self, obs: Any) -> Tensor:
        """An observation of the environment's space as ``[n]`` on the model's device.

        Raises:
            ValueError: If it is not of the space, or holds NaN or inf.
        """
        flat = self.observation_codec.flatten(obs)
        return torch.from_numpy(flat).to(self.model.spec.device, self.model.spec.dtype)

    def observations(self, obs: Any, active: Flags | None = None) -> Tensor:
        """One observation as ``[1, n]``, or those of a vector environment as ``[B, n]``, on the device.

        Args:
            obs: As for :meth:`act`.
            active: ``[B]``; other rows are not read and become 0.

        Raises:
            ValueError: If an observation that is read is not of the space, or holds NaN or inf.
        """
        flat = self.observation_codec.flatten_rows(obs, active)
        return torch.from_numpy(flat).to(self.model.spec.device, self.model.spec.dtype)

    def environment_action(self, action: Tensor) -> npt.NDArray[Any]:
        """Actions ``[..., m]`` of planners in the environment's units, shape and dtype."""
        return self.action_codec.decode(action.detach().cpu().numpy())

    def decide(
        self,
        memory: AgentMemory,
        observation: Tensor,
        *,
        reward: Tensor | None = None,
        episode_start: Tensor | None = None,
        active: Tensor | None = None,
        planner: Planner | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[AgentMemory, Tensor]:
        """One environment step of ``B`` environments; only those whose held action has run out decide.

        Changes only the generator and :attr:`last_plan`: the given memory stays as it was.

        Args:
            memory: What is remembered of the ``B`` environments.
            observation: ``[B, n]``, finite.
            reward: ``[B]``, what arrived with the observation, NaN where unknown; None = unknown everywhere.
            episode_start: ``[B]`` bool, rows to forget first.
            active: ``[B]`` bool; other rows (finished episodes) are left alone, and what is returned for
                them is meaningless.
            planner: A planner to use instead of the agent's, with the same kind of memory.
            generator: A source of randomness to use instead of the agent's.

        Returns:
            The next memory and the action ``[B, m]`` of this environment step.

        Raises:
            ValueError: If the planner finds no finite candidate or returns an action that is not finite.
        """
        return self._decide(
            memory,
            observation,
            reward=reward,
            episode_start=episode_start,
            active=active,
            planner=planner,
            generator=generator,
        )

    def _decide(
        self,
        memory: AgentMemory,
        observation: Tensor,
        *,
        reward: Tensor | None,
        episode_start: Tensor | None,
        active: Tensor | None,
        planner: Planner | None = None,
        generator: torch.Generator | None = None,
        background: Background | None = None,
    ) -> tuple[AgentMemory, Tensor]:
        if self._goal is not None:
            observation = self._goal.instead_in(observation)
        until = None
        if self.deadline is not None:
            until = Deadline(time.perf_counter() + self.deadline, self._pace)
        decision = decide(
            self.model,
            planner or self.planner,
            memory,
            observation,
            reward=reward,
            episode_start=episode_start,
            active=active,
            prompt=self._prompt,
            generator=generator or self.generator,
            deadline=until,
            background=background,
        )
        if decision.view is not None:
            self.last_plan = decision.view
        return decision.memory, decision.action

    # ------------------------------------------------------------------ environments and files

    @overload
    def attach(self, env: VectorEnv[Any, Any, Any], *, background: bool = False) -> AttachedVectorEnv: ...

    @overload
    def attach(self, env: gym.Env[Any, Any], *, background: bool = False) -> AttachedEnv: ...

    def attach(
        self, env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any], *, background: bool = False
    ) -> AttachedEnv | AttachedVectorEnv:
        """A wrapped environment that tells this agent of its resets, rewards and ends.

        Use it in place of ``env``, and call ``agent.act(obs)`` once before each of its steps. Leave out
        ``agent.reset()``, ``reward=`` and ``episode_start=``, whatever the environment does at the end of
        an episode (see :mod:`.attach`). After a step that the agent did not decide, it begins anew,
        because its memory no longer leads to the present. The agent listens until the environment is closed
        or the agent is attached to another one.

        Args:
            env: A ``gymnasium.Env`` or ``gymnasium.vector.VectorEnv``, with its other wrappers on.
            background: Whether the next plan is made in a thread while the last one is executed, for the
                state where its actions will have led by then, as the model imagines it. An episode's first
                plan is waited for; later, :meth:`act` waits for what is left. What planning raises,
                :meth:`act` raises when it needs the plan. One environment and a learned model only.

        Raises:
            TypeError: If ``env`` is neither, or the model reads the live environment and ``background`` is
                True.
            ValueError: If :meth:`check_env` refuses it, or a vector environment has no
                ``metadata["autoreset_mode"]``, or has several members and ``background`` is True.
        """
        link = link_to(env)
        self.check_env(env)
        if background:
            check_background(self.model, link.batch)
        if self._link is not None:
            self.detach(self._link)
        self._link, self._memory, self._begins = link, None, False
        self._background = Background() if background else None
        if isinstance(env, VectorEnv):
            return AttachedVectorEnv(env, link, partial(self.detach, link))
        return AttachedEnv(env, link, partial(self.detach, link))

    def detach(self, link: Link) -> None:
        """Stop listening to an attached environment; its ``close()`` does this."""
        link.cut = True
        if self._link is link:
            self._link, self._memory, self._begins = None, None, False
            if self._background is not None:
                self._background.close()
                self._background = None

    def close(self) -> None:
        """Stop listening to the attached environment, which stays open, and end the thread that plans."""
        if self._link is not None:
            self.detach(self._link)

    def check_env(self, env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> None:
        """Refuse an environment, or a vector environment, whose spaces are not the model's.

        Raises:
            ValueError: If a space differs, or a wrapper changes observations or rewards although no space
                shows it (the message names the first of these and the remedy), or if the agent's reward
                function would be wrong for the environment's body.
        """
        check_spaces(self.model.spec, env, self.env_id)
        refuse_hidden_changes(env)
        if self.reward_function is not None:
            check_reward(self.reward_function, env)

    def save(self, folder: str | Path) -> None:
        """Write the model's files and ``agent.json`` to ``folder``; :meth:`load` reads them.

        Raises:
            FileExistsError: If ``folder`` holds files but no checkpoint; a checkpoint is replaced.
            OSError: If ``folder`` cannot be made or written to.
            ValueError: If the model has nothing to save, the planner is neither installed nor registered
                under a name, or the reward function has no name by which it could be imported.
        """
        agent_files.write(
            Path(folder),
            self.base_model,
            agent_files.settings_of(
                self.planner,
                self.reward_function,
                self.env_id,
                replan_every=self.replan_every,
                deadline=self.deadline,
            ),
        )

    def push_to_hub(
        self,
        repository: str,
        *,
        evaluation: str | Path | None = None,
        private: bool = False,
        message: str = "Upload an agent",
    ) -> str:
        """Save the agent to the Hugging Face hub, with a model card; ``load("hf://owner/name")`` reads it.

        Args:
            repository: ``"owner/name"``; made if it does not exist. The agent that it holds is replaced.
            evaluation: What ``tdm evaluate --out`` wrote of these weights, for the card.
            private: Whether a repository that is made is private.
            message: Message of the commit.

        Returns:
            The agent's name with the commit in it, ``"hf://owner/name@commit"``.

        Raises:
            ImportError: If ``huggingface_hub`` is not installed.
            RuntimeError: If the hub cannot be reached or refuses, or ``evaluation`` is no report.
            ValueError: If ``repository`` is not ``"owner/name"``, the agent cannot be saved (see
                :meth:`save`), or other weights were evaluated.
        """
        with TemporaryDirectory() as folder:
            self.save(folder)
            write_card(Path(folder), repository, None if evaluation is None else Path(evaluation))
            return str(hub.upload(Path(folder), repository, private=private, message=message))

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path,
        planner: str | Planner | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
        *,
        env_id: str | None = None,
        env: gym.Env[Any, Any] | None = None,
        reward_function: str | RewardFn | None = None,
        replan_every: int | None = None,
        deadline: float | None = None,
        **planner_settings: Any,
    ) -> TDMAgent:
        """An agent from a bundled checkpoint, a folder that :meth:`save` wrote, or the Hugging Face hub.

        Args:
            name_or_folder: A bundled name (``"cartpole-swingup"``), a path, or ``"hf://owner/name"``, which
                may end in ``@revision``.
            planner: A planner, or the name of one. None: the one that the checkpoint was saved with. Another
                planner by name keeps the checkpoint's horizon, which belongs to the model and its task.
            seed: Seed of the agent's randomness.
            device: Where the model computes.
            env_id: Which environment the agent is for, where the checkpoint is of several (a generalist).
            env: The environment that the agent is for. A generalist need not have been trained on it.
            reward_function: A function to plan for, or its name; ``"predicted"``: the reward that the model
                itself predicts. None: the one that the checkpoint was saved with.
            replan_every: Decisions per plan. None: what the checkpoint was saved with.
            deadline: Seconds that a decision may take. None: what the checkpoint was saved with.
            **planner_settings: Fields of the planner to set differently.

        Raises:
            CheckpointError: If a file is missing, truncated or altered.
            HubError: If the agent is on the hub, which cannot be reached, and was never loaded before.
            UntrustedModuleError: If the checkpoint names a module that the user has not named too.
            LookupError: If there is no such checkpoint, planner, world model or reward function, or the
                checkpoint is of several environments and ``env_id`` is none of them.
            TypeError: If the planner has no such setting, or an argument is of the wrong type.
            ValueError: If the reward function is of another body or the model imagines no observations for it
                to read, the planner's horizon is shorter than ``replan_every``, or ``env`` does not fit the
                model.
        """
        folder = agent_files.resolve(name_or_folder)
        saved = agent_files.read_settings(folder)
        chosen = agent_files.choose_planner(saved, planner, planner_settings)
        reward = reward_function
        if reward is None:
            vet_reward(reward := saved.reward_function, str(folder / agent_files.AGENT_FILE))
        model = agent_files.load_model(folder, device, env_id=env_id, env=env)
        if planner is None or isinstance(planner, str):
            kept = saved.planner_settings if planner in (None, saved.planner) else {}
            if "discount" not in {**kept, **planner_settings}:
                chosen = discounted(chosen, model)
        try:
            agent = cls(
                model,
                chosen,
                seed,
                env_id=saved.env_id or env_id,
                reward_function=None if reward == PREDICTED else reward,
                replan_every=saved.replan_every if replan_every is None else replan_every,
                deadline=saved.deadline if deadline is None else deadline,
            )
            if env is not None:
                agent.check_env(env)
            return agent
        except WrongValueError as error:
            raise WrongValueError(f"{folder}: {error}") from error
        except LookupError as error:
            if reward_function is not None or not is_mistake(error):
                raise
            raise UnknownNameError(f"{saved.source}: {brief(error)}") from error
