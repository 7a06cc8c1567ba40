"""One environment step of ``B`` environments: from what is remembered and what arrived to actions."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tdm_agents.memory import AgentMemory, gather, scatter
from tdm_agents.protocols import HasOnly, History, ModelSpec, Plan, Planner, WorldModel


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


@dataclass(frozen=True, slots=True)
class Decision:
    """What :func:`decide` returns.

    Attributes:
        memory: The next memory.
        action: ``[B, m]`` of this environment step.
        view: The plan that was made; None where every environment holds its action.
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
) -> Decision:
    """See :meth:`tdm_agents.TDMAgent.decide`, which says what the arguments are."""
    if episode_start is not None:
        memory = memory.forget(episode_start)
    if active is None:
        active = torch.ones_like(memory.countdown, dtype=torch.bool)
    arrived = torch.full_like(memory.pending, float("nan")) if reward is None else reward
    memory = replace(memory, pending=torch.where(active, memory.pending + arrived, memory.pending))
    view = None
    rows = (active & (memory.countdown == 0)).nonzero().squeeze(1)
    if rows.numel() == memory.batch:
        memory, view = _plan(model, planner, memory, observation, rows, generator)
    elif rows.numel():
        part, view = _plan(model, planner, gather(memory, rows), observation[rows], rows, generator)
        memory = scatter(memory, rows, part)
    countdown = torch.where(active, memory.countdown - 1, memory.countdown)
    return Decision(replace(memory, countdown=countdown), memory.action[:, -1], view)


def _plan(
    model: WorldModel[Any],
    planner: Planner,
    memory: AgentMemory,
    observation: Tensor,
    rows: Tensor,
    generator: torch.Generator,
) -> tuple[AgentMemory, PlanView]:
    """Decide for every row of ``memory``, which are the environments ``rows`` of the caller."""
    spec = model.spec
    if isinstance(model, HasOnly):
        model = model.only(rows.tolist())
    elapsed = (memory.length > 0).to(torch.int64)  # every env plans at each decision: 1, or 0 if new
    memory = memory.append(observation)
    history = memory.history()
    began = time.perf_counter()
    state = model.start(history, horizon=planner.horizon)
    plan = planner.plan(model, state, memory.carry, elapsed=elapsed, generator=generator)
    if plan.action.is_cuda:
        torch.cuda.synchronize(plan.action.device)  # otherwise the clock would stop before the plan does
    milliseconds = 1e3 * (time.perf_counter() - began)
    _check_action(planner, spec, plan.action, memory)
    action = plan.action
    if spec.action_kind == "continuous":
        action = action.clamp(-1.0, 1.0)  # what the environment executes is what the model must read
    after = replace(
        memory,
        action=torch.cat([memory.action[:, :-1], action[:, None]], dim=1),
        countdown=torch.full_like(memory.countdown, spec.action_repeat),
        carry=plan.carry,
    )
    return after, PlanView(rows=rows, history=history, plan=plan, milliseconds=milliseconds)


def _check_action(planner: Planner, spec: ModelSpec, action: Tensor, memory: AgentMemory) -> None:
    name = type(planner).__name__
    expected = (memory.batch, spec.action_dim)
    if action.shape != expected or action.dtype != memory.action.dtype:
        raise ValueError(
            f"{name}.plan returned an action {tuple(action.shape)} {action.dtype}; "
            f"expected {expected} {memory.action.dtype}: check the planner with "
            "tdm_agents.testing.check_planner"
        )
    if not bool(torch.isfinite(action).all()):
        raise ValueError(
            f"{name}.plan returned an action that is not finite: {action.tolist()}; "
            "check the planner with tdm_agents.testing.check_planner"
        )
    if spec.action_kind == "discrete":
        choices = torch.tensor(spec.action_choices, device=action.device)
        if bool(((action < 0) | (action >= choices)).any()):
            raise ValueError(
                f"{name}.plan returned the action {action.tolist()}; expected components that count from 0, "
                f"of {choices.tolist()} choices: check the planner's samples"
            )
