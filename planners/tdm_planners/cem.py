"""The cross-entropy method, which refits its distribution to the best few candidates."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from tdm_agents.errors import WrongValueError
from tdm_planners.gaussian import GaussianPlanner


@dataclass(frozen=True, kw_only=True)
class CEM(GaussianPlanner):
    """A planner that refits mean and standard deviation to the ``num_elites`` best candidates.

    It is that of Rubinstein 1999, with time-correlated noise and elites kept over iterations and decisions as
    in iCEM (Pinneri et al. 2020, arXiv:2008.06389). Elites have equal weights. An environment with fewer
    finite candidates than ``num_elites`` is refitted to those it has.

    Attributes:
        num_elites: Number of candidates to which the distribution is refitted, from 1 to ``num_samples``.

    Raises:
        TypeError: If a setting is not of its type.
        ValueError: If one is out of its range; the message says what is expected.
    """

    num_elites: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.num_elites <= self.num_samples:
            raise WrongValueError(
                f"num_elites is {self.num_elites}; expected at least 1 and at most num_samples, "
                f"which is {self.num_samples}"
            )

    def smaller(self, samples: int, iterations: int) -> Self:
        """With as many elites and proposed candidates per candidate, of elites at least one."""
        elites = max(1, self.num_elites * samples // self.num_samples)
        return replace(
            self,
            num_samples=samples,
            iterations=iterations,
            num_elites=elites,
            num_policy=self.fewer_policy(samples),
        )

    def weigh(self, values: Tensor) -> Tensor:
        """Weights of one over their number for the elites, and 0 for the others."""
        best = values.topk(self.num_elites, dim=1)
        chosen = torch.zeros_like(values).scatter(1, best.indices, (best.values > -math.inf).to(values.dtype))
        return chosen / chosen.sum(dim=1, keepdim=True)
