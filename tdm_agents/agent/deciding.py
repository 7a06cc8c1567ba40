"""One environment step of ``B`` environments: from what is remembered and what arrived to actions.

A decision is due in an environment when the action that it holds has run out. Every ``k``-th decision of an
episode makes a plan, and the others take the next action of that plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tdm_agents.agent.background import Background, make_plan
from tdm_agents.agent.memory import AgentMemory, gather, scatter
from tdm_agents.agent.prompt import recall
from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import (
    Deadline,
    HasOnly,
    History,
    ModelSpec,
    Plan,
    Planner,
    WorldModel,
)


@dataclass(frozen=True, slots=True)
class PlanView:
    """The last plan, for progress bars and plots.

    Attributes:
        rows: ``[B']`` int64, the environments that were planned for.
        history: What was known of them.
        plan: The planner's answer; ``plan.value`` is the imagined value, ``plan.sequence`` the actions.
        milliseconds: Wall-clock time of ``start`` and ``plan`` together, for all rows.
        late: Seconds after the agent's deadline at which the plan was there; negative before it, and 0 where
            there is no deadline.
        waited: Seconds for which the loop waited for the plan: all of its time, or with ``background`` what
            was left of it.
    """

    rows: Tensor
    history: History
    plan: Plan
    milliseconds: float
    late: float = 0.0
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of :func:`decide`.

    Attributes:
        memory: The next memory.
        action: ``[B, m]``, the actions of this environment step.
        view: The plan that was made; None where none was.
    """

    memory: AgentMemory
    action: Tensor
    view: PlanView | None


@torch.no_grad()
def decide(
    model: WorldModel[Any],
    planner: Planner,
    memory: AgentMemory,
    observation: Tensor,
    *,
    generator: torch.Generator,
    reward: Tensor | None = None,
    episode_start: Tensor | None = None,
    active: Tensor | None = None,
    prompt: History | None = None,
    deadline: Deadline | None = None,
    background: Background | None = None,
) -> Decision:
    """See :meth:`tdm_agents.TDMAgent.decide` for the arguments, and its ``reset`` for ``prompt``.

    With ``background`` there is one environment, whose later plans were made there.
    """
    if episode_start is not None:
        memory = memory.forget(episode_start)
    if prompt is not None:
        memory = recall(memory, prompt, memory.length == 0)
    if active is None:
        active = torch.ones_like(memory.countdown, dtype=torch.bool)
    arrived = torch.full_like(memory.pending, float("nan")) if reward is None else reward
    memory = replace(memory, pending=torch.where(active, memory.pending + arrived, memory.pending))
    view = None
    due = plan_due(memory)
    deciding = active & (memory.countdown == 0)
    rows = (deciding & ~due).nonzero().squeeze(1)
    if rows.numel():
        part = _follow(gather(memory, rows), observation[rows], model.spec.action_repeat)
        memory = scatter(memory, rows, part)
    rows = (deciding & due).nonzero().squeeze(1)
    if rows.numel() == memory.batch:
        memory, view = _plan(model, planner, memory, observation, rows, generator, deadline, background)
    elif rows.numel():
        part, view = _plan(model, planner, gather(memory, rows), observation[rows], rows, generator, deadline)
        memory = scatter(memory, rows, part)
    countdown = torch.where(active, memory.countdown - 1, memory.countdown)
    return Decision(replace(memory, countdown=countdown), memory.action[:, -1], view)


def plan_due(memory: AgentMemory) -> Tensor:
    """``[B]`` bool, whether the next decision makes a plan; otherwise it follows the last one."""
    return (memory.since == 0) | (memory.since >= memory.replan_every)


def _follow(memory: AgentMemory, observation: Tensor, repeat: int) -> AgentMemory:
    """The memory in which every row takes the next action of the plan that it has."""
    rows = torch.arange(memory.batch, device=memory.since.device)
    action = memory.ahead[rows, memory.since - 1]
    return replace(memory.append(observation).act(action, repeat=repeat), since=memory.since + 1)


def _plan(
    model: WorldModel[Any],
    planner: Planner,
    memory: AgentMemory,
    observation: Tensor,
    rows: Tensor,
    generator: torch.Generator,
    deadline: Deadline | None,
    background: Background | None = None,
) -> tuple[AgentMemory, PlanView]:
    """Plan for every row of ``memory``; these are the caller's environments ``rows``."""
    spec = model.spec
    if isinstance(model, HasOnly):
        model = model.only(rows.tolist())
    elapsed = memory.since
    memory = memory.append(observation)
    history = memory.history()
    made = None
    if background is not None:
        if bool(elapsed.all()):
            made = background.take()
        else:
            background.drop()  # it is of the episode before
    if made is None:
        made = make_plan(
            model, planner, history, memory.carry, elapsed=elapsed, generator=generator, deadline=deadline
        )
    plan = made.plan
    actions = _to_execute(planner, spec, plan, memory)
    if spec.action_kind == "continuous":
        actions = actions.clamp(-1.0, 1.0)  # what the environment executes is what the model must read
    after = replace(
        memory.act(actions[:, 0], repeat=spec.action_repeat),
        since=torch.ones_like(memory.since),
        ahead=actions[:, 1:],
        carry=plan.carry,
    )
    if background is not None:
        again = None if deadline is None else deadline.again()  # this one was spent on the plan above
        background.begin(model, planner, after, generator=generator, deadline=again)
    view = PlanView(
        rows=rows,
        history=history,
        plan=plan,
        milliseconds=made.milliseconds,
        late=made.late,
        waited=made.waited,
    )
    return after, view


def _to_execute(planner: Planner, spec: ModelSpec, plan: Plan, memory: AgentMemory) -> Tensor:
    """The actions ``[B, k, m]`` of a plan that are executed before the next one.

    Raises:
        ValueError: If the plan has fewer actions, or one has another shape or dtype, is not finite, or is
            none of the discrete choices.
    """
    name, action, ahead = type(planner).__name__, plan.action, memory.ahead
    if memory.replan_every > 1:
        ahead = plan.sequence[:, 1 : memory.replan_every]
    remedy = "check the planner with tdm_agents.testing.check_planner"
    expected = (memory.batch, spec.action_dim)
    if action.shape != expected or action.dtype != memory.action.dtype:
        raise WrongValueError(
            f"{name}.plan returned an action {tuple(action.shape)} {action.dtype}; "
            f"expected {expected} {memory.action.dtype}: {remedy}"
        )
    if ahead.shape != memory.ahead.shape or ahead.dtype != memory.action.dtype:
        expected_sequence = (memory.batch, f"{memory.replan_every} or more", spec.action_dim)
        raise WrongValueError(
            f"{name}.plan returned a sequence {tuple(plan.sequence.shape)} {plan.sequence.dtype} to an agent "
            f"that plans every {memory.replan_every} decisions; expected {expected_sequence} "
            f"{memory.action.dtype}: {remedy}, or lower replan_every"
        )
    actions = torch.cat([action[:, None], ahead], dim=1)
    if not bool(torch.isfinite(actions).all()):
        raise WrongValueError(
            f"{name}.plan returned an action that is not finite: {actions.tolist()}; {remedy}"
        )
    if spec.action_kind == "discrete":
        choices = torch.tensor(spec.action_choices, device=actions.device)
        if bool(((actions < 0) | (actions >= choices)).any()):
            raise WrongValueError(
                f"{name}.plan returned the action {actions.tolist()}; expected components that count from 0, "
                f"of {choices.tolist()} choices: check the planner's samples"
            )
    return actions
