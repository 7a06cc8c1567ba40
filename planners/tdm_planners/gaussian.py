"""What CEM and MPPI share: a Gaussian over action sequences, refitted to weighted candidates."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, get_args

import torch
from torch import Tensor

from tdm_planners.noise import check_noise, correlated_noise
from tdm_planners.shooting import Returns, Search, ShootingCarry, ShootingPlanner


@dataclass(frozen=True, kw_only=True)
class GaussianPlanner(ShootingPlanner):
    """Samples around a mean, weighs the candidates, refits mean and standard deviation to them.

    The mean and the best so far are candidates of every iteration after an environment's first.

    Attributes:
        initial_std: Standard deviation of the first iteration's samples, each decision (actions are in
            [-1, 1]).
        std_floor: Least standard deviation of later iterations.
        momentum: Share of the old mean and standard deviation in the new ones, in [0, 1).
        noise_alpha: Correlation of neighbouring steps of the noise (AR(1)), in [0, 1); 0 is white.
        noise_beta: If given, coloured noise of power spectral density ``f^-noise_beta`` instead of AR(1).
        returns: ``"best"`` executes the best candidate of the last iteration and returns its value;
            ``"sample"`` one drawn by weight, with its value; ``"mean"`` the final mean, with the weighted
            mean of the candidates' values as an estimate, because the final mean itself is not imagined.
    """

    initial_std: float = 0.7
    std_floor: float = 0.05
    momentum: float = 0.0
    noise_alpha: float = 0.7
    noise_beta: float | None = None
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
        if not 0.0 <= self.momentum < 1.0:
            raise ValueError(f"momentum is {self.momentum}; expected 0 (none) <= momentum < 1")
        check_noise(self.noise_alpha, self.noise_beta)
        if self.returns not in get_args(Returns):
            raise ValueError(f"returns is {self.returns!r}; expected one of {', '.join(get_args(Returns))}")

    def first(self, memory: ShootingCarry) -> Search:
        """Search around the remembered mean (0 where there is none) with ``initial_std``."""
        return Search(memory=memory, std=torch.full_like(memory.mean, self.initial_std))

    def sample(self, search: Search, count: int, generator: torch.Generator) -> Tensor:
        """Draws around the mean, ``[B, count, H, m]``."""
        mean, std = search.memory.mean[:, None], search.std[:, None]
        shape = (mean.shape[0], count, *mean.shape[2:])
        noise = correlated_noise(
            shape, alpha=self.noise_alpha, beta=self.noise_beta, generator=generator, dtype=mean.dtype
        )
        return mean + std * noise

    def update(self, search: Search, candidates: Tensor, weights: Tensor) -> Search:
        """Weighted mean and standard deviation of each step and action scalar, with momentum and floor.

        The standard deviation is refitted as in TD-MPC2 (Hansen et al. 2024, arXiv:2310.16828, section 3.2);
        MPPI as first published (Williams et al. 2017) leaves it as it is.
        """
        share = weights[:, :, None, None]
        mean = (share * candidates).sum(dim=1)  # [B, H, m]
        std = (share * (candidates - mean[:, None]).square()).sum(dim=1).sqrt()
        if self.momentum > 0.0:
            mean = torch.lerp(mean, search.memory.mean, self.momentum)
            std = torch.lerp(std, search.std, self.momentum)
        std = std.clamp(self.std_floor, self.initial_std)
        return Search(memory=replace(search.memory, mean=mean), std=std)

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
