"""Who plays an episode: a planning agent, or any function from an observation to an action."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch

from tdm_agents.agent import TDMAgent
from tdm_agents.evaluation.environments import Env
from tdm_agents.protocols import HasOnly, Planner, WorldModel, rollout

Policy = Callable[[Any], Any]
"""An observation of the environment's space to an action of its space."""


@dataclass(frozen=True, slots=True)
class AgentFactory:
    """An agent whose model reads the running environments, as the simulator does.

    Attributes:
        make_model: The model of some environments, for example :class:`tdm_agents.SimulatorModel`.
        planner: What plans with it.
        reward_function: Name of a function of :mod:`tdm_envs.rewards`, or None.
        replan_every: Decisions a plan.
    """

    make_model: Callable[[list[Env]], WorldModel[Any]]
    planner: Planner
    reward_function: str | None = None
    replan_every: int = 1

    def __call__(self, envs: Sequence[Env]) -> TDMAgent:
        """An agent for these environments."""
        return TDMAgent(
            self.make_model(list(envs)),
            self.planner,
            reward_function=self.reward_function,
            replan_every=self.replan_every,
        )


@dataclass(frozen=True, slots=True)
class Move:
    """One environment step's worth of play in ``E`` environments.

    Attributes:
        actions: ``E`` actions; None where an episode is over.
        rows: Environments that decided in this step.
        milliseconds: Wall-clock time of those decisions together.
        transitions: Imagined transitions, all of them together.
        non_finite: Candidates refused because their value was NaN or inf.
        imagined: ``[len(rows), h, n]``, what the plan expected; None where not asked for.
        value: ``[len(rows)]``, what the planner believed its plan is worth; None for a policy.
    """

    actions: list[Any]
    rows: list[int]
    milliseconds: float
    transitions: float = 0.0
    non_finite: float = 0.0
    imagined: npt.NDArray[np.float32] | None = None
    value: npt.NDArray[np.float32] | None = None


class Player(Protocol):
    """Plays ``E`` environments in lock-step from their first observation on."""

    def move(self, observations: Sequence[Any], rewards: Sequence[float], active: Sequence[bool]) -> Move:
        """Actions for the environments that are ``active``; ``rewards`` are NaN at the first step."""
        ...


class AgentPlayer:
    """A :class:`TDMAgent` that plans for all running episodes at once.

    Args:
        agent: The agent; its generator goes on from where it is.
        batch: Number of environments ``E``.
        record_horizon: Imagined steps of each plan to report; 0 = none.
    """

    def __init__(self, agent: TDMAgent, batch: int, record_horizon: int = 0) -> None:
        self.agent = agent
        self.record_horizon = min(record_horizon, agent.planner.horizon)
        self._memory = agent.initial_memory(batch)
        # apart from the agent's, so that recording does not change what it does
        self._generator = torch.Generator(device=agent.model.spec.device).manual_seed(0)

    def move(self, observations: Sequence[Any], rewards: Sequence[float], active: Sequence[bool]) -> Move:
        """See :class:`Player`."""
        agent, spec = self.agent, self.agent.model.spec
        running = torch.tensor(list(active), device=spec.device)
        flat = torch.stack(
            [
                agent.observation(o) if a else torch.zeros(spec.observation_dim, device=spec.device)
                for o, a in zip(observations, active, strict=True)
            ]
        ).to(spec.dtype)  # [E, n]
        before = agent.last_plan
        self._memory, action = agent.decide(
            self._memory,
            flat,
            reward=torch.tensor(list(rewards), dtype=spec.dtype, device=spec.device),
            active=running,
        )
        played = agent.environment_action(action)
        actions = [a if r else None for a, r in zip(played, active, strict=True)]
        view = agent.last_plan
        if view is None or view is before:
            return Move(actions, [], 0.0)
        return Move(
            actions=actions,
            rows=view.rows.tolist(),
            milliseconds=view.milliseconds,
            transitions=float(view.plan.stats.get("transitions", 0.0)),
            non_finite=float(view.plan.stats.get("non_finite", 0.0)),
            imagined=self._imagine() if self.record_horizon else None,
            value=view.plan.value.float().cpu().numpy(),
        )

    @torch.no_grad()
    def _imagine(self) -> npt.NDArray[np.float32]:
        view, model = self.agent.last_plan, self.agent.model
        assert view is not None
        if isinstance(model, HasOnly):
            model = model.only(view.rows.tolist())
        state = model.start(view.history, horizon=self.record_horizon)
        sequence = view.plan.sequence[:, : self.record_horizon]
        imagined = rollout(model, state, sequence, generator=self._generator)
        array: npt.NDArray[np.float32] = imagined.observation.float().cpu().numpy()
        return array


@dataclass(frozen=True, slots=True)
class PolicyPlayer:
    """A plain function, called once an environment and step."""

    policy: Policy

    def move(self, observations: Sequence[Any], rewards: Sequence[float], active: Sequence[bool]) -> Move:
        """See :class:`Player`."""
        began = time.perf_counter()
        actions = [self.policy(o) if a else None for o, a in zip(observations, active, strict=True)]
        milliseconds = 1e3 * (time.perf_counter() - began)
        return Move(actions, [i for i, a in enumerate(active) if a], milliseconds)


@dataclass(frozen=True, slots=True)
class RandomPolicy:
    """Uniform actions: the baseline below everything.

    Attributes:
        space: The environment's action space.
        seed: Same seed, same actions.
    """

    space: gym.Space[Any]
    seed: int = 0
    _rng: np.random.Generator = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.space, gym.spaces.Box) or not self.space.is_bounded():
            raise ValueError(f"action_space {self.space} is not a bounded Box; draw from your own policy")
        object.__setattr__(self, "_rng", np.random.default_rng(self.seed))

    def __call__(self, observation: Any) -> npt.NDArray[Any]:
        """A uniform action, whatever the observation."""
        assert isinstance(self.space, gym.spaces.Box)
        drawn = self._rng.uniform(self.space.low, self.space.high).astype(self.space.dtype)
        bounded: npt.NDArray[Any] = np.clip(drawn, self.space.low, self.space.high)
        return bounded


def player_of(
    contestant: TDMAgent | AgentFactory | Policy,
    envs: Sequence[Env],
    *,
    seed: int | None,
    record_horizon: int,
) -> Player:
    """The player that a contestant is in these environments.

    Args:
        contestant: An agent, how to make one, or a policy.
        envs: The environments, reset.
        seed: Seeds the agent's generator; None lets it go on. A policy has its own.
        record_horizon: See :class:`AgentPlayer`.

    Raises:
        ValueError: If the environments' spaces are not the agent's.
    """
    if isinstance(contestant, AgentFactory):
        contestant = contestant(envs)
    if not isinstance(contestant, TDMAgent):
        return PolicyPlayer(contestant)
    for env in envs[:1]:
        contestant.check_env(env)
    if seed is not None:
        contestant.generator.manual_seed(seed)
    return AgentPlayer(contestant, len(envs), record_horizon)
