"""Model predictive path integral control, which weights candidates by the exponential of their value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Deadline, ModelSpec, WorldModel
from tdm_planners.bounds import within_bounds
from tdm_planners.carry import ShootingCarry
from tdm_planners.distributions import Distribution, Gaussian
from tdm_planners.gaussian import GaussianPlanner
from tdm_planners.proposals import follow, require_proposal
from tdm_planners.scoring import finite_std, moderated
from tdm_planners.setting_checks import check_at_least


@dataclass(frozen=True, kw_only=True)
class MPPI(GaussianPlanner):
    """A planner that weights candidates by ``softmax((value - max) / (temperature * std))``.

    The weights are those of Williams et al., "Information theoretic MPC for model-based reinforcement
    learning", ICRA 2017. Values are standardised over the finite candidates, so that one temperature suits
    rewards of any scale. Iterations and the refitted standard deviation are as in TD-MPC2 (arXiv:2310.16828).
    The planner of TD-MPC2 itself is a choice of these settings: ``num_policy``, ``num_elites``, values that
    are not standardised, no candidates kept, ``execute="sample"``.

    Attributes:
        temperature: Divides the values, more than 0; higher is flatter.
        standardise: Whether values are also divided by their standard deviation over the candidates that
            have a weight.
        num_elites: Only as many of the best candidates have a weight; from 1 to ``num_samples``, None = all.
        num_policy: How many of the candidates are the model's own proposal, followed once per decision in
            imagination and sampled; the model needs one if it is more than 0.
        std_ceiling: Greatest refitted standard deviation, at least ``std_floor``; None = ``initial_std``.
        candidates_kept: Whether the mean and the best so far are candidates again.

    Raises:
        TypeError: If a setting is not of its type.
        ValueError: If one is out of its range; the message says what is expected.
    """

    temperature: float = 1.0 / 3.0
    standardise: bool = True
    num_elites: int | None = None
    num_policy: int = 0
    std_ceiling: float | None = None
    candidates_kept: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature > 0.0:
            raise WrongValueError(
                f"temperature is {self.temperature}; expected more than 0 (higher is flatter)"
            )
        if self.num_elites is not None and not 1 <= self.num_elites <= self.num_samples:
            raise WrongValueError(
                f"num_elites is {self.num_elites}; expected at least 1 and at most num_samples, "
                f"which is {self.num_samples}, or None (all)"
            )
        check_at_least("num_policy", self.num_policy, 0)
        kept = self.num_kept + self.keeps_mean if self.candidates_kept else 0
        if kept + self.num_policy >= self.num_samples:
            raise WrongValueError(
                f"num_policy is {self.num_policy}; expected less than the {self.num_samples - kept} of "
                "num_samples that are not kept rows, or there is nothing left to sample"
            )
        if self.std_ceiling is not None and not self.std_ceiling >= self.std_floor:
            raise WrongValueError(
                f"std_ceiling is {self.std_ceiling}; expected at least std_floor, which is {self.std_floor}"
            )

    @property
    def recalls(self) -> bool:
        """Whether kept rows are candidates again: ``candidates_kept``."""
        return self.candidates_kept

    def smaller(self, samples: int, iterations: int) -> Self:
        """With as many elites and proposed candidates per candidate, of elites at least one."""
        elites, share = self.num_elites, samples / self.num_samples
        return replace(
            self,
            num_samples=samples,
            iterations=iterations,
            num_elites=None if elites is None else max(1, int(elites * share)),
            num_policy=int(self.num_policy * share),
        )

    def first(self, memory: ShootingCarry, spec: ModelSpec) -> Distribution:
        """Around what is remembered, and wide; ``std_ceiling`` bounds what it is refitted to."""
        distribution = super().first(memory, spec)
        if self.std_ceiling is not None and isinstance(distribution, Gaussian):
            return replace(distribution, ceiling=self.std_ceiling)
        return distribution

    @property
    def num_given(self) -> int:
        """``num_policy``."""
        return self.num_policy

    def given(
        self,
        model: WorldModel[Any],
        state: Any,
        batch: int,
        generator: torch.Generator,
        deadline: Deadline | None = None,
    ) -> Tensor | None:
        """``num_policy`` sequences that follow the model's proposal, ``[B, P, H, m]``, if there is time.

        Raises:
            TypeError: If the model has no proposal.
        """
        if not self.num_policy:
            return None
        if deadline is not None and not deadline.allows(batch * self.num_policy, self.horizon):
            return None
        proposer = require_proposal(model, self)

        def act(rows: Any, t: int) -> Tensor:
            return within_bounds(proposer.propose(rows, 1, generator=generator).actions[:, 0])

        every = torch.arange(batch, device=model.spec.device).repeat_interleave(self.num_policy)
        parts = torch.split(every, self.rows_at_once(model, state, len(every)))
        sequences = []
        for rows in parts:
            started = model.take(state, rows)
            followed, _ = follow(model, started, act, self.horizon, generator=generator, deadline=deadline)
            if followed.shape[1] < self.horizon:
                return None
            sequences.append(followed)
        return torch.cat(sequences).reshape(batch, self.num_policy, self.horizon, -1)

    def weigh(self, values: Tensor) -> Tensor:
        """Softmax of the (standardised) values; 0 where a value is -inf or not among the elites."""
        if self.num_elites is not None:
            best = values.topk(self.num_elites, dim=1).indices
            others = torch.ones_like(values, dtype=torch.bool).scatter(1, best, False)
            values = values.masked_fill(others, -torch.inf)
        if not self.standardise:
            return torch.softmax((values - values.amax(dim=1, keepdim=True)) / self.temperature, dim=1)
        values, _ = moderated(values)  # returns near the end of float32's range overflow in a variance
        top = values.amax(dim=1, keepdim=True)
        # values that differ only by rounding are ties; without a floor the softmax would amplify them
        least = torch.finfo(values.dtype).eps * 100.0 * top.abs() + torch.finfo(values.dtype).tiny
        std = torch.maximum(finite_std(values)[:, None], least)
        return torch.softmax((values - top) / (self.temperature * std), dim=1)
