"""Planning agents as actors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tdm_agents.actors.actor import Move
from tdm_agents.agent import TDMAgent
from tdm_agents.agent.prompt import recall
from tdm_agents.environments import Env
from tdm_agents.protocols import (
    HasOnly,
    Planner,
    RewardFn,
    WorldModel,
    looped_rollout,
    observation_of,
    require_observations,
)


@dataclass(frozen=True, slots=True)
class AgentFactory:
    """A recipe for an agent whose model reads the running environments, as the simulator does.

    Attributes:
        make_model: Makes the model of some environments, for example :class:`tdm_agents.SimulatorModel`.
        planner: The planner.
        reward_function: A function, its name, or None, as for :class:`tdm_agents.TDMAgent`.
        replan_every: Decisions per plan.
        deadline: Seconds that a decision may take; None = as long as it takes.
    """

    make_model: Callable[[list[Env]], WorldModel[Any]]
    planner: Planner
    reward_function: str | RewardFn | None = None
    replan_every: int = 1
    deadline: float | None = None

    def __call__(self, envs: Sequence[Env]) -> TDMAgent:
        """The agent for these environments."""
        return TDMAgent(
            self.make_model(list(envs)),
            self.planner,
            reward_function=self.reward_function,
            replan_every=self.replan_every,
            deadline=self.deadline,
        )


RECORD = "a record of what each plan expects"
WITHOUT = "set record_horizon=0, which records what happens"


class AgentActor:
    """A :class:`TDMAgent` that plans for all running episodes at once.

    Args:
        agent: The agent; its generator goes on from where it is.
        batch: Number of environments ``E``.
        record_horizon: Imagined steps of each plan to report; 0 = none.

    Raises:
        ValueError: If ``record_horizon`` is not 0 and the model imagines no observations.
    """

    def __init__(self, agent: TDMAgent, batch: int, record_horizon: int = 0) -> None:
        if record_horizon:
            require_observations(agent.model, RECORD, instead=WITHOUT)
        self.agent = agent
        self.action_repeat: int | None = agent.model.spec.action_repeat
        self.record_horizon = min(record_horizon, agent.planner.horizon)
        self._memory = agent.initial_memory(batch)
        # not the agent's generator, so that recording does not change what the agent does
        self._generator = torch.Generator(device=agent.model.spec.device).manual_seed(0)

    def act(self, observations: Sequence[Any], rewards: Sequence[float], active: Sequence[bool]) -> Move:
        """See :class:`tdm_agents.actors.actor.Actor`."""
        agent, spec = self.agent, self.agent.model.spec
        before = agent.last_plan
        memory, action = agent.decide(
            self._due(),
            self._flat(observations, active),
            reward=torch.tensor(list(rewards), dtype=spec.dtype, device=spec.device),
            active=torch.tensor(list(active), dtype=torch.bool, device=spec.device),
        )
        self._memory = memory
        codes = action.detach().cpu().numpy()
        played = agent.action_codec.decode(codes)
        actions = [a if r else None for a, r in zip(played, active, strict=True)]
        view = agent.last_plan
        if view is None or view is before:
            return Move(actions, [], 0.0, codes=codes)
        return Move(
            actions=actions,
            rows=view.rows.tolist(),
            milliseconds=view.milliseconds,
            late=view.late > 0.0,
            transitions=float(view.plan.stats.get("transitions", 0.0)),
            non_finite=float(view.plan.stats.get("non_finite", 0.0)),
            imagined=self._imagine() if self.record_horizon else None,
            value=view.plan.value.float().cpu().numpy(),
            codes=codes,
        )

    def correct(self, codes: npt.NDArray[Any]) -> None:
        """See :class:`tdm_agents.actors.actor.Correctable`: the model reads what was executed."""
        memory = self._memory
        executed = torch.as_tensor(codes, device="cpu").to(memory.action)
        self._memory = replace(memory, action=torch.cat([memory.action[:, :-1], executed[:, None]], dim=1))

    def stand_aside(self, observations: Sequence[Any], rewards: Sequence[float]) -> None:
        """See :class:`tdm_agents.actors.actor.Correctable`: no plan is made that nobody executes."""
        memory, prompt = self._due(), self.agent.prompt
        if prompt is not None:
            memory = recall(memory, prompt, memory.length == 0)
        arrived = torch.tensor(list(rewards), dtype=memory.pending.dtype, device=memory.pending.device)
        memory = replace(memory, pending=memory.pending + arrived)
        flat = self._flat(observations, [True] * len(observations))
        # the next plan is shifted by all decisions since the last one; before the first plan there is none
        since = torch.where(memory.since == 0, 0, memory.since + 1)
        self._memory = replace(memory.append(flat), since=since)

    def _due(self) -> Any:
        """The memory with no action being held: an actor is asked only at decisions."""
        return replace(self._memory, countdown=torch.zeros_like(self._memory.countdown))

    def _flat(self, observations: Sequence[Any], active: Sequence[bool]) -> Tensor:
        agent, spec = self.agent, self.agent.model.spec
        return torch.stack(
            [
                agent.observation(o)
                if a
                else torch.zeros(spec.observation_dim, dtype=spec.dtype, device=spec.device)
                for o, a in zip(observations, active, strict=True)
            ]
        ).to(spec.dtype)  # [E, n]

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
