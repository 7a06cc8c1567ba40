"""Who plays an episode: a planning agent, or a policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tdm_agents.agent import TDMAgent
from tdm_agents.environments import Env
from tdm_agents.evaluation.moves import Move, Player
from tdm_agents.evaluation.policies import Policy, PolicyPlayer, Predictor, PredictPlayer, RandomPolicy
from tdm_agents.protocols import (
    HasOnly,
    Planner,
    WorldModel,
    looped_rollout,
    observation_of,
    require_observations,
)
from tdm_agents.wrappers.sb3 import Predicts


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


RECORD = "a record of what each plan expects"
WITHOUT = "set record_horizon=0, which records what happens"


class AgentPlayer:
    """A :class:`TDMAgent` that plans for all running episodes at once.

    Args:
        agent: The agent; its generator goes on from where it is.
        batch: Number of environments ``E``.
        record_horizon: Imagined steps of each plan to report; 0 = none.

    Raises:
        ValueError: If imagined steps are to be reported and the model imagines no observations.
    """

    def __init__(self, agent: TDMAgent, batch: int, record_horizon: int = 0) -> None:
        if record_horizon:
            require_observations(agent.model, RECORD, instead=WITHOUT)
        self.agent = agent
        self.record_horizon = min(record_horizon, agent.planner.horizon)
        self._memory = agent.initial_memory(batch)
        # apart from the agent's, so that recording does not change what it does
        self._generator = torch.Generator(device=agent.model.spec.device).manual_seed(0)

    def move(self, observations: Sequence[Any], rewards: Sequence[float], active: Sequence[bool]) -> Move:
        """See :class:`tdm_agents.evaluation.moves.Player`."""
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
        # who has just decided holds an action of which only this step is gone
        decided = (running & (self._memory.countdown == spec.action_repeat - 1)).nonzero()[:, 0].tolist()
        view = agent.last_plan
        if view is None or view is before:
            return Move(actions, decided, [], 0.0)
        return Move(
            actions=actions,
            decided=decided,
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
        imagined = looped_rollout(model, state, sequence, generator=self._generator)
        observation = observation_of(imagined, model, RECORD, instead=WITHOUT)
        array: npt.NDArray[np.float32] = observation.float().cpu().numpy()
        return array


Contestant = TDMAgent | AgentFactory | Predictor | Predicts | Policy
"""Who can be evaluated."""


def player_of(
    contestant: Contestant,
    envs: Sequence[Env],
    *,
    seed: int | None,
    record_horizon: int,
) -> Player:
    """The player that a contestant is in these environments.

    Args:
        contestant: An agent, how to make one, a Stable-Baselines3 policy, or a function.
        envs: The environments, reset.
        seed: Seeds what the contestant draws from (a function of one's own has its own seed); None lets an
            agent's generator go on.
        record_horizon: See :class:`AgentPlayer`.

    Raises:
        ValueError: If the environments' spaces are not the contestant's.
    """
    if isinstance(contestant, AgentFactory):
        contestant = contestant(envs)
    if isinstance(contestant, TDMAgent):
        contestant.check_env(envs[0])
        if seed is not None:
            contestant.generator.manual_seed(seed)
        return AgentPlayer(contestant, len(envs), record_horizon)
    if isinstance(contestant, RandomPolicy):
        return PolicyPlayer(contestant if seed is None else replace(contestant, seed=seed))
    if isinstance(contestant, Predicts):
        contestant = Predictor(contestant)
    if isinstance(contestant, Predictor):
        return PredictPlayer(contestant, envs, seed)
    return PolicyPlayer(contestant)
