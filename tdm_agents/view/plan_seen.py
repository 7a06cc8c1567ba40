"""From an agent's plan and its trace to what is shown of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tdm_agents.agent import TDMAgent
from tdm_agents.agent.deciding import PlanView
from tdm_agents.protocols import Considered
from tdm_agents.view.live_physics import LivePhysics
from tdm_agents.view.snapshots import FloatArray, PlanSeen
from tdm_agents.world_models.simulator import SimulatorModel


def plan_seen(
    agent: TDMAgent, view: PlanView, physics: LivePhysics | None, *, number: int, shown: int
) -> PlanSeen:
    """What is shown of a plan for one environment.

    Args:
        agent: The agent that made it.
        view: The plan, with a trace where its planner keeps one.
        physics: The environment's physics, in the state in which it was planned.
        number: Counts the plans.
        shown: ``S``, number of candidates beside the chosen sequence, at most.
    """
    plan, trace = view.plan, view.plan.trace
    actions, values, observation = plan.sequence[:1], plan.value[:1], None
    if trace:
        last = trace[-1]
        rows = _ranks(last.value[0], shown)
        actions = actions[:, : last.actions.shape[2]]  # a deadline may have ended what was imagined
        actions = torch.cat([actions, last.actions[0, rows].to(actions.dtype)])
        values = torch.cat([values, last.value[0, rows].to(values.dtype)])
        if last.observation is not None:
            chosen = _imagined(last, actions[0])
            observation = torch.cat([chosen[None], last.observation[0, rows]])
    state = (None, None) if physics is None else physics.state()
    decoded = np.asarray(agent.environment_action(actions), np.float32)
    return PlanSeen(
        number=number,
        actions=decoded.reshape(*actions.shape[:2], -1),
        values=_array(values),
        observation=None if observation is None else _array(observation),
        considered=tuple(_array(c.value[0][c.value[0].isfinite()]) for c in trace or ()),
        physics=state[0],
        warmstart=state[1],
        true=isinstance(agent.base_model, SimulatorModel),
        milliseconds=view.milliseconds,
    )


def _ranks(values: Tensor, shown: int) -> Tensor:
    """Indices of at most ``shown`` finite ``values`` ``[K]``, evenly spaced from the best to the worst."""
    order = values.argsort(descending=True)
    order = order[: int(values.isfinite().sum())]
    count = min(shown, len(order))
    places = torch.linspace(0, max(len(order) - 1, 0), count, device=order.device, dtype=torch.float64)
    return order[places.round().long()]


def _imagined(last: Considered, sequence: Tensor) -> Tensor:
    """What was imagined ``[H, n]`` for the chosen sequence; NaN where it is none of the candidates."""
    assert last.observation is not None
    same = (last.actions[0] == sequence).flatten(1).all(dim=1).nonzero().flatten()
    if not len(same):
        return torch.full_like(last.observation[0, 0], torch.nan)
    return last.observation[0, same[0]]


def _array(tensor: Tensor) -> FloatArray:
    array: FloatArray = tensor.detach().float().cpu().numpy()
    return array
