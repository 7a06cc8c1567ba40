"""What CEM and MPPI share: a distribution over action sequences, refitted to weighted candidates."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, get_args

import torch
from torch import Tensor

from tdm_agents.protocols import ModelSpec
from tdm_planners.distributions import Categorical, Distribution, Gaussian
from tdm_planners.noise import AR1NoiseSettings
from tdm_planners.shooting import Returns, Search, ShootingCarry, ShootingPlanner


@dataclass(frozen=True, kw_only=True)
class GaussianPlanner(AR1NoiseSettings, ShootingPlanner):
    """Samples around a mean, weighs the candidates, refits mean and standard deviation to them.

    Discrete actions are drawn from a categorical distribution of each step and component instead, refitted
    to weighted frequencies; its likeliest choices take the place of the mean. The mean and the best so far
    are candidates of every iteration after an environment's first.

    Attributes:
        initial_std: Standard deviation of the first iteration's samples, each decision (actions are in
            [-1, 1]); more than 0.
        std_floor: Least standard deviation of later iterations, from 0 to ``initial_std``.
        uniform_start: Discrete actions: share of uniform draws around a remembered plan in a decision's first
            iteration, in [0, 1].
        uniform_floor: Discrete actions: share of uniform draws in later iterations, at most that.
        momentum: Share of the old mean and standard deviation (or probabilities) in the new ones, in [0, 1).
        returns: ``"best"`` executes the best candidate of the last iteration and returns its value;
            ``"sample"`` one drawn by weight, with its value; ``"mean"`` the final mean, with the weighted
            mean of the candidates' values as an estimate, because the final mean itself is not imagined.

    Raises:
        TypeError: If a setting is not of its type.
        ValueError: If one is out of its range; the message says what is expected.
    """

    initial_std: float = 0.7
    std_floor: float = 0.05
    uniform_start: float = 0.5
    uniform_floor: float = 0.05
    momentum: float = 0.0
    returns: Returns = "best"

    keeps_mean: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.initial_std > 0.0:
            raise ValueError(
                f"initial_std is {self.initial_std}; expected more than 0, or nothing is explored"
            )
        if not 0.0 <= self.std_floor <= self.initial_std:
            raise ValueError(
                f"std_floor is {self.std_floor}; expected 0 <= std_floor <= initial_std ({self.initial_std})"
            )
        if not 0.0 <= self.uniform_floor <= self.uniform_start <= 1.0:
            raise ValueError(
                f"uniform_floor is {self.uniform_floor} and uniform_start {self.uniform_start}; expected "
                "0 <= uniform_floor <= uniform_start <= 1"
            )
        if not 0.0 <= self.momentum < 1.0:
            raise ValueError(f"momentum is {self.momentum}; expected 0 (none) <= momentum < 1")
        self.check_noise(self.horizon)
        if self.returns not in get_args(Returns):
            raise ValueError(f"returns is {self.returns!r}; expected one of {', '.join(get_args(Returns))}")

    def first(self, memory: ShootingCarry, spec: ModelSpec) -> Search:
        """Search around what is remembered: widely (``initial_std``, ``uniform_start``)."""
        if spec.action_kind == "discrete":
            share = torch.where(memory.known, self.uniform_start, 1.0)
            return Search(memory, Categorical.around(memory.mean, spec, uniform_share=share))
        std = torch.full_like(memory.mean, self.initial_std)
        return Search(memory, Gaussian(memory.mean, std, self.noise))

    def update(self, search: Search, candidates: Tensor, weights: Tensor) -> Search:
        """The distribution refitted to the weighted candidates, with momentum and floor.

        The standard deviation is refitted as in TD-MPC2 (Hansen et al. 2024, arXiv:2310.16828, section 3.2);
        MPPI as first published (Williams et al. 2017) leaves it as it is.

        Raises:
            TypeError: If :meth:`first` of a subclass searches a distribution that is neither of the two.
        """
        distribution = search.distribution
        if isinstance(distribution, Categorical):
            fitted: Distribution = distribution.refit(
                candidates, weights, momentum=self.momentum, floor=self.uniform_floor
            )
        elif isinstance(distribution, Gaussian):
            fitted = distribution.refit(
                candidates,
                weights,
                momentum=self.momentum,
                floor=self.std_floor,
                ceiling=self.initial_std,
            )
        else:
            raise TypeError(
                f"{type(self).__name__}.first searches a {type(distribution).__name__}, which is not "
                "refitted here; override update too"
            )
        return Search(replace(search.memory, mean=fitted.centre), fitted)

    def choose(
        self, search: Search, candidates: Tensor, values: Tensor, weights: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The sequence that ``returns`` names, and its value."""
        if self.returns == "mean":
            estimate = (weights * values.masked_fill(values == -math.inf, 0.0)).sum(dim=1)
            return search.memory.mean, estimate
        if self.returns == "sample":
            row = torch.multinomial(weights, 1, generator=generator).squeeze(1)
        else:
            row = values.argmax(dim=1)
        every = torch.arange(row.shape[0], device=row.device)
        return candidates[every, row], values[every, row]
