"""What an agent remembers: a value with one row per environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from tdm_agents.errors import WrongTypeError
from tdm_agents.protocols import History, ModelSpec

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class AgentMemory:
    """What an agent knows of ``B`` environments between two of their steps.

    There is one entry per decision, ``T = spec.history_steps`` in all. They are padded on the left, so that
    the last index is the most recent decision.

    Attributes:
        observation: ``[B, T, n]``, the observations at decisions.
        reward: ``[B, T]``, summed over the environment steps that led to each observation; NaN where the
            caller did not give all of them, and at an episode's first decision.
        action: ``[B, T, m]``, decided at each observation; ``action[:, -1]`` is being held.
        length: ``[B]`` int64, number of entries that are real; 0 where the episode has not begun.
        pending: ``[B]``, reward since the last decision; NaN where part of it is unknown.
        countdown: ``[B]`` int64, environment steps for which the action is still held; 0 = decide now.
        since: ``[B]`` int64, decisions executed since the last plan; 0 where this episode has no plan yet.
        ahead: ``[B, k - 1, m]``, the actions of that plan after its first, which are executed before the next
            plan; meaningless where ``since`` is 0.
        carry: The planner's own memory.
    """

    observation: Tensor
    reward: Tensor
    action: Tensor
    length: Tensor
    pending: Tensor
    countdown: Tensor
    since: Tensor
    ahead: Tensor
    carry: Any

    @staticmethod
    def empty(spec: ModelSpec, batch: int, carry: Any, *, replan_every: int = 1) -> AgentMemory:
        """Memory of ``batch`` environments whose episodes have not begun."""
        device, steps = spec.device, spec.history_steps
        discrete = spec.action_kind == "discrete"
        actions = torch.int64 if discrete else spec.dtype
        return AgentMemory(
            observation=torch.zeros(batch, steps, spec.observation_dim, dtype=spec.dtype, device=device),
            reward=torch.full((batch, steps), float("nan"), dtype=spec.dtype, device=device),
            action=torch.zeros(batch, steps, spec.action_dim, dtype=actions, device=device),
            length=torch.zeros(batch, dtype=torch.int64, device=device),
            pending=torch.full((batch,), float("nan"), dtype=spec.dtype, device=device),
            countdown=torch.zeros(batch, dtype=torch.int64, device=device),
            since=torch.zeros(batch, dtype=torch.int64, device=device),
            ahead=torch.zeros(batch, replan_every - 1, spec.action_dim, dtype=actions, device=device),
            carry=carry,
        )

    @property
    def batch(self) -> int:
        """Number of environments ``B``."""
        return self.length.shape[0]

    @property
    def replan_every(self) -> int:
        """Decisions per plan, ``k``."""
        return self.ahead.shape[1] + 1

    def forget(self, rows: Tensor) -> AgentMemory:
        """The memory with an empty history where ``rows`` (bool ``[B]``) is True.

        The carry stays: a planner forgets by itself where ``elapsed`` is 0.
        """
        return replace(
            self,
            observation=self.observation.masked_fill(rows[:, None, None], 0),
            reward=self.reward.masked_fill(rows[:, None], float("nan")),
            action=self.action.masked_fill(rows[:, None, None], 0),
            length=self.length.masked_fill(rows, 0),
            pending=self.pending.masked_fill(rows, float("nan")),
            countdown=self.countdown.masked_fill(rows, 0),
            since=self.since.masked_fill(rows, 0),
        )

    def append(self, observation: Tensor) -> AgentMemory:
        """The memory with one more entry per row, its action still 0. ``observation`` is ``[B, n]``."""
        return replace(
            self,
            observation=torch.cat([self.observation[:, 1:], observation[:, None]], dim=1),
            reward=torch.cat([self.reward[:, 1:], self.pending[:, None]], dim=1),
            action=torch.cat([self.action[:, 1:], torch.zeros_like(self.action[:, :1])], dim=1),
            length=(self.length + 1).clamp(max=self.observation.shape[1]),
            pending=torch.zeros_like(self.pending),
        )

    def act(self, action: Tensor, *, repeat: int) -> AgentMemory:
        """The memory with the last entry's action ``[B, m]``, to be held for ``repeat`` environment steps."""
        return replace(
            self,
            action=torch.cat([self.action[:, :-1], action[:, None]], dim=1),
            countdown=torch.full_like(self.countdown, repeat),
        )

    def history(self) -> History:
        """The history that a world model reads, without columns that are padding in every row."""
        steps = int(self.length.max())
        return History(
            observation=self.observation[:, -steps:],
            reward=self.reward[:, -steps:],
            action=self.action[:, -steps:-1],
            length=self.length,
        )


def gather(value: V, rows: Tensor) -> V:
    """Rows of a memory: a tensor, None, or a dataclass of such."""
    if isinstance(value, Tensor):
        return value[rows]  # type: ignore[return-value]
    if value is None:
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: gather(getattr(value, f.name), rows) for f in fields(value)})
    raise WrongTypeError(_not_memory(value))


def scatter(whole: V, rows: Tensor, part: V) -> V:
    """``whole`` with ``rows`` replaced by ``part``; neither is changed."""
    if isinstance(whole, Tensor) and isinstance(part, Tensor):
        return whole.index_copy(0, rows, part)  # type: ignore[return-value]
    if whole is None and part is None:
        return whole
    if is_dataclass(whole) and type(whole) is type(part) and not isinstance(whole, type):
        merged: Mapping[str, Any] = {
            f.name: scatter(getattr(whole, f.name), rows, getattr(part, f.name)) for f in fields(whole)
        }
        return replace(whole, **merged)
    raise WrongTypeError(_not_memory(part))


def carry_flaw(carry: Any, batch: int) -> str | None:
    """The reason why ``carry`` is unfit as a planner's memory of ``batch`` environments; None if it is fit.

    A carry is None or a dataclass of tensors with one row per environment, so that the agent can gather and
    scatter rows where only some environments decide.
    """
    if carry is None:
        return None
    if not is_dataclass(carry) or isinstance(carry, type):
        return f"carry is a {type(carry).__name__}; expected None or a dataclass of tensors"
    for f in fields(carry):
        value = getattr(carry, f.name)
        if not isinstance(value, Tensor):
            return f"carry.{f.name} is a {type(value).__name__}; expected a tensor with a leading B = {batch}"
        if value.ndim == 0 or value.shape[0] != batch:
            return f"carry.{f.name} has shape {tuple(value.shape)}; expected a leading B = {batch}"
    return None


def _not_memory(value: object) -> str:
    return (
        f"planner memory holds a {type(value).__name__}; expected a dataclass of tensors with one row per "
        "environment: change what the planner's init() and plan() return as carry"
    )
