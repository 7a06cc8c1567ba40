"""The planner, its settings and its loop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import ModelSpec, Plan, WorldModel, rollout
from tdm_planners.carry import ShootingCarry, shift
from tdm_planners.scoring import evaluate
from tdm_planners.setting_checks import check_at_least, check_discount, check_types


@dataclass(frozen=True, kw_only=True)
class DifferentialEvolution:
    """Differential evolution (Storn and Price 1997, variant current-to-best/1/bin) of continuous actions.

    Each iteration makes one trial per member, ``x + F (best - x) + F (y - z)`` with two other members ``y``
    and ``z``. Some of its numbers are taken over, and the result is kept if it is worth at least as much. The
    better half of a population, moved ahead, starts the next decision; the other half is drawn again.

    Attributes:
        horizon: Decisions imagined ahead.
        num_samples: Members of the population, at least 4.
        iterations: Rollouts per decision; the first evaluates the population, the others its trials.
        factor: ``F``, in (0, 2].
        crossover: Share of a trial's numbers that are taken over, in [0, 1].
        spread: Bound of new members, which are uniform in [-spread, spread]; at most 1.
        hold: Number of decisions for which a new member holds an action.
        discount: Factor per decision on later rewards, in (0, 1].
    """

    horizon: int = 25
    num_samples: int = 32
    iterations: int = 4
    factor: float = 0.6
    crossover: float = 0.8
    spread: float = 1.0
    hold: int = 3
    discount: float = 1.0

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least("num_samples", self.num_samples, 4)
        for name in ("horizon", "iterations", "hold"):
            check_at_least(name, getattr(self, name), 1)
        for name, most in (("factor", 2.0), ("crossover", 1.0), ("spread", 1.0)):
            if not 0.0 <= (value := getattr(self, name)) <= most:
                raise WrongValueError(f"{name} is {value}; expected 0 to {most}")
        check_discount(self.discount)

    def init(self, spec: ModelSpec, batch: int) -> ShootingCarry:
        """An unknown best plan, and the better half of an unknown population, for each environment."""
        if spec.action_kind != "continuous":
            raise WrongValueError(
                f"differential_evolution moves continuous actions; the model's are {spec.action_kind}: "
                "choose another planner, for example cem"
            )
        shape = (batch, 1 + self.num_samples // 2, self.horizon, spec.action_dim)
        zeros = torch.zeros(shape, dtype=spec.dtype, device=spec.device)
        known = torch.zeros(batch, dtype=torch.bool, device=spec.device)
        return ShootingCarry(mean=zeros[:, 0], elites=zeros[:, 1:], known=known)

    @torch.no_grad()
    def plan(
        self,
        model: WorldModel[Any],
        state: Any,
        carry: ShootingCarry,
        *,
        elapsed: Tensor,
        generator: torch.Generator,
    ) -> Plan:
        """Decide for ``B`` environments: execute the best member after the last iteration."""
        memory = shift(carry, elapsed.to(carry.known.device))
        members = self._population(memory, generator)  # [B, K, H, m]
        values, refused = self._values(model, state, members, generator)  # [B, K]
        for _ in range(self.iterations - 1):
            trials = self._trials(members, values, generator)
            found, count = self._values(model, state, trials, generator)
            refused += count
            better = found >= values
            members = torch.where(better[:, :, None, None], trials, members)
            values = torch.where(better, found, values)
        if lost := (values == -math.inf).all(dim=1).nonzero().flatten().tolist():
            raise WrongValueError(
                f"environment {lost[0]} has no member of a finite value: the model diverges"
            )
        batch, count = values.shape
        order = values.argsort(dim=1, descending=True)[:, : count // 2]
        kept = members[torch.arange(batch, device=order.device)[:, None], order]
        best = kept[:, 0]
        stats = {
            "non_finite": float(refused),
            "transitions": float(batch * count * self.horizon * self.iterations),
        }
        memory = ShootingCarry(mean=best, elites=kept, known=torch.ones_like(memory.known))
        return Plan(best[:, 0], best, values.amax(dim=1), memory, stats)

    def _population(self, memory: ShootingCarry, generator: torch.Generator) -> Tensor:
        """The remembered members and, for the rest, random held actions: ``[B, K, H, m]``."""
        batch, half, horizon, m = memory.elites.shape
        shape = (batch, self.num_samples, -(-horizon // self.hold), m)
        draws = torch.rand(shape, generator=generator, device=generator.device, dtype=memory.mean.dtype)
        fresh = (self.spread * (2.0 * draws - 1.0)).repeat_interleave(self.hold, dim=2)[:, :, :horizon]
        known = memory.known[:, None, None, None]
        return torch.cat([torch.where(known, memory.elites, fresh[:, :half]), fresh[:, half:]], dim=1)

    def _trials(self, members: Tensor, values: Tensor, generator: torch.Generator) -> Tensor:
        """One trial per member, inside the bounds of actions."""
        batch, count, *_ = members.shape
        device = members.device
        draws = torch.rand((batch, count, count - 1), generator=generator, device=device)
        others = draws.argsort(dim=2)[:, :, :2] + 1  # distances ahead: not 0, and two different ones
        others = (others + torch.arange(count, device=device)[:, None]) % count
        row = torch.arange(batch, device=device)[:, None]
        y, z = members[row, others[:, :, 0]], members[row, others[:, :, 1]]
        best = members[row, values.argmax(dim=1, keepdim=True)]
        mutants = members + self.factor * (best - members) + self.factor * (y - z)
        crossed = torch.rand(members.shape, generator=generator, device=device) < self.crossover
        return torch.where(crossed, mutants, members).clamp(-1.0, 1.0)

    def _values(
        self, model: WorldModel[Any], state: Any, members: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, int]:
        """The values of members, -inf where they are not finite, and the number of those."""
        batch, count, *_ = members.shape
        rows = torch.arange(batch, device=members.device).repeat_interleave(count)
        imagined = rollout(model, model.take(state, rows), members.flatten(0, 1), generator=generator)
        values = evaluate(model, imagined, discount=self.discount).view(batch, count)
        bad = ~values.isfinite()
        return values.masked_fill(bad, -math.inf), int(bad.sum())
