"""What a model imagined at some plans of an episode, to be compared with what then happened."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tdm_agents.agent import TDMAgent
from tdm_agents.agent.deciding import PlanView
from tdm_agents.evaluation.plots import Moment
from tdm_agents.evaluation.records import Recording, Tick
from tdm_agents.protocols import looped_rollout, observation_of


class PlanLog:
    """All plans of an agent, in order; pass it as ``on_step`` of an evaluation of one episode.

    Args:
        agent: The agent that plans.

    Attributes:
        agent: The agent that plans.
        views: The plans so far.
    """

    def __init__(self, agent: TDMAgent) -> None:
        self.agent = agent
        self.views: list[PlanView] = []

    def __call__(self, tick: Tick) -> None:
        """Take note of the last plan."""
        last = self.agent.last_plan
        if last is not None and (not self.views or self.views[-1] is not last):
            self.views.append(last)


def imagine(agent: TDMAgent, views: Sequence[PlanView], recording: Recording, index: int) -> Moment:
    """What the model expected at a plan: of that plan, and of the actions that were then taken.

    Args:
        agent: The agent that planned.
        views: Every plan of the episode, in order.
        recording: The episode.
        index: Index of the plan in ``views``.

    Raises:
        ValueError: If the model imagines no observations.
    """
    model, view = agent.model, views[index]
    planned = view.plan.sequence
    horizon = planned.shape[1]
    executed = [v.plan.sequence[:, : agent.replan_every] for v in views[index : index + horizon]]
    taken = torch.cat(executed, dim=1)[:, :horizon]  # [1, h, m]
    seen = []
    for actions in (planned, taken):
        generator = torch.Generator(device=model.spec.device).manual_seed(0)
        state = model.start(view.history, horizon=horizon)
        with torch.no_grad():
            imagined = looped_rollout(model, state, actions, generator=generator)
        observation = observation_of(
            imagined, model, "a plot of what was imagined", instead="plot the episode without moments"
        )
        seen.append(observation[0].cpu().numpy())
    return Moment(int(recording.planned_at[index]), *seen)


def moments_of(plans: int, horizon: int, replan_every: int) -> list[int]:
    """Indices of up to four plans to look at: the first three horizons, where motion is, and the middle."""
    apart = -(-horizon // replan_every)  # plans until one has been followed to its end
    last = max(plans - apart, 0)
    return sorted({min(index, last) for index in (0, apart, 2 * apart, plans // 2)})
