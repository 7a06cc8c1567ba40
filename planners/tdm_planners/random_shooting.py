"""Random shooting: imagine random sequences, and execute the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import ModelSpec
from tdm_planners.carry import ShootingCarry
from tdm_planners.distributions import Categorical, Distribution, Gaussian
from tdm_planners.noise import NoiseSettings, brownian_walk
from tdm_planners.shooting import ShootingPlanner


@dataclass(frozen=True, kw_only=True)
class RandomShooting(NoiseSettings, ShootingPlanner):
    """The TDM paper's planner: Brownian action noise, and the best sequence's first action.

    See section 4.1 of arXiv:2305.10912. A candidate is a walk from 0 with increments of N(0, 2), clipped to
    [-1, 1] after summing. The 2 is read as a variance, hence ``noise_scale = sqrt(2)``. Discrete actions are
    drawn uniformly. There is no memory, except that with ``warm_start`` the previous best sequence, shifted,
    is one of the candidates.

    Attributes:
        noise_scale: Standard deviation of the walk's increments, or of the noise itself where it is coloured
            or a spline; more than 0.

    Raises:
        TypeError: If a setting is not of its type.
        ValueError: If one is out of its range; the message says what is expected.
    """

    num_samples: int = 128
    iterations: int = 1
    warm_start: bool = False
    noise_scale: float = math.sqrt(2.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.noise_scale > 0.0:
            raise WrongValueError(
                f"noise_scale is {self.noise_scale}; expected more than 0, or nothing is explored"
            )
        self.check_noise(self.horizon)

    def first(self, memory: ShootingCarry, spec: ModelSpec) -> Distribution:
        """The distribution of every iteration, which does not depend on the memory and is never refitted."""
        if spec.action_kind == "discrete":
            every = torch.ones_like(memory.known, dtype=spec.dtype)
            return Categorical.around(memory.mean, spec, uniform_share=every, momentum=1.0)
        std = torch.full_like(memory.mean, self.noise_scale)
        return Gaussian(torch.zeros_like(std), std, self.noise, momentum=1.0)

    def plain_noise(self, shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """The paper's walk."""
        return brownian_walk(shape, generator=generator, dtype=dtype)

    def weigh(self, values: Tensor) -> Tensor:
        """Weights of 1 for the best candidate, and 0 for the others."""
        return torch.zeros_like(values).scatter(1, values.argmax(dim=1, keepdim=True), 1.0)
