"""A world model that records what planners imagine with it, and can spoil their rewards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tdm_agents.protocols import HasProposal, History, Proposal, Rollout, Step, looped_rollout
from tdm_agents.testing.linear_quadratic import LinearQuadraticModel


@dataclass(frozen=True, slots=True)
class Recorded:
    """``N`` rows of the recorder's state.

    Attributes:
        inner: State of the wrapped model.
        environment: ``[N]`` int64, the environment of each row.
        past: ``[N, t, m]``, actions since the start.
    """

    inner: Any
    environment: Tensor
    past: Tensor


class Recorder:
    """A wrapped model, with a record of what was imagined and, on demand, rows of NaN.

    Args:
        inner: The wrapped model.
        poison: Chooses the rows that earn ``bad``, by their environments ``[N]`` and actions ``[N, t, m]``.
        bad: The reward of such rows.

    Attributes:
        imagined: Actions of each rollout ``[N, H, m]`` or step ``[N, 1, m]``.
        rollouts: Number of calls of ``rollout``.
        refused: Number of rows that were poisoned, counted at their first step.
    """

    def __init__(
        self,
        inner: LinearQuadraticModel,
        poison: Callable[[Tensor, Tensor], Tensor] | None = None,
        bad: float = float("nan"),
    ) -> None:
        self.inner, self.poison, self.bad = inner, poison, bad
        self.spec = inner.spec
        self.imagined: list[Tensor] = []
        self.rollouts = self.refused = 0
        if isinstance(inner, HasProposal):
            self.propose = self._propose  # not in the class: the wrapped model may have no proposals

    def start(self, history: History, *, horizon: int) -> Recorded:
        """The model's, with a row an environment."""
        past = torch.zeros(
            history.batch, 0, self.spec.action_dim, dtype=self.spec.dtype, device=self.spec.device
        )
        return Recorded(
            self.inner.start(history, horizon=horizon),
            torch.arange(history.batch, device=self.spec.device),
            past,
        )

    def take(self, state: Recorded, rows: Tensor) -> Recorded:
        """The given rows of the wrapped state, and of the record."""
        return Recorded(self.inner.take(state.inner, rows), state.environment[rows], state.past[rows])

    def step(
        self, state: Recorded, action: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Recorded, Step]:
        """A step of the wrapped model, recorded, with the poisoned rows spoilt.

        Raises:
            AssertionError: If a choice does not exist, which would fail later with a less helpful message.
        """
        self.check_choices("a candidate", action)
        self.imagined.append(action[:, None].clone())
        inner, step = self.inner.step(state.inner, action, generator=generator)
        past = torch.cat([state.past, self.inner.push(action)[:, None]], dim=1)
        if self.poison is not None:
            lost = self.poison(state.environment, past)
            self.refused += int(lost.sum()) if past.shape[1] == 1 else 0
            step = replace(step, reward=step.reward.masked_fill(lost, self.bad))
        return Recorded(inner, state.environment, past), step

    def rollout(
        self, state: Recorded, actions: Tensor, *, generator: torch.Generator | None = None
    ) -> Rollout:
        """A rollout, recorded as one entry."""
        self.rollouts += 1
        noted = len(self.imagined)
        result = looped_rollout(self, state, actions, generator=generator)
        self.imagined[noted:] = [actions.clone()]
        return result

    def check_choices(self, what: str, actions: Tensor) -> None:
        """Assert that discrete actions ``[..., m]`` are choices of their components; ``what`` names them."""
        if self.spec.action_kind == "discrete":
            choices = torch.tensor(self.spec.action_choices, device=self.spec.device)
            inside = bool(((actions >= 0) & (actions < choices)).all())
            least, most = actions.min().item(), actions.max().item()
            assert inside, f"{what} holds the choices {least} to {most}; expected 0 to {choices.max() - 1}"

    def _propose(
        self,
        state: Recorded,
        count: int,
        *,
        generator: torch.Generator | None = None,
        deterministic: bool = False,
    ) -> Proposal:
        assert isinstance(self.inner, HasProposal)
        return self.inner.propose(state.inner, count, generator=generator, deterministic=deterministic)
