"""Model predictive path integral control, which weights candidates by the exponential of their value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import ModelSpec
from tdm_planners.carry import ShootingCarry
from tdm_planners.distributions import Distribution, Gaussian
from tdm_planners.gaussian import GaussianPlanner
from tdm_planners.scoring import finite_std, moderated


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
        std_ceiling: Greatest refitted standard deviation, at least ``std_floor``; None = ``initial_std``.
        candidates_kept: Whether the mean and the best so far are candidates again.

    Raises:
        TypeError: If a setting is not of its type.
        ValueError: If one is out of its range; the message says what is expected.
    """

    temperature: float = 1.0 / 3.0
    standardise: bool = True
    num_elites: int | None = None
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
            num_policy=self.fewer_policy(samples),
        )

    def first(self, memory: ShootingCarry, spec: ModelSpec) -> Distribution:
        """Around what is remembered, and wide; ``std_ceiling`` bounds what it is refitted to."""
        distribution = super().first(memory, spec)
        if self.std_ceiling is not None and isinstance(distribution, Gaussian):
            return replace(distribution, ceiling=self.std_ceiling)
        return distribution

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
