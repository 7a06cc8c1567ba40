"""Model predictive path integral control, which weights candidates by the exponential of their value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tdm_agents.errors import WrongValueError
from tdm_planners.gaussian import GaussianPlanner
from tdm_planners.scoring import finite_std, moderated


@dataclass(frozen=True, kw_only=True)
class MPPI(GaussianPlanner):
    """A planner that weights candidates by ``softmax((value - max) / (temperature * std))``.

    The weights are those of Williams et al., "Information theoretic MPC for model-based reinforcement
    learning", ICRA 2017. Values are standardised over the finite candidates, so that one temperature suits
    rewards of any scale. Iterations and the refitted standard deviation are as in TD-MPC2 (arXiv:2310.16828).

    Attributes:
        temperature: Divides the standardised values, more than 0; higher is flatter.

    Raises:
        TypeError: If a setting is not of its type.
        ValueError: If one is out of its range; the message says what is expected.
    """

    temperature: float = 1.0 / 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature > 0.0:
            raise WrongValueError(
                f"temperature is {self.temperature}; expected more than 0 (higher is flatter)"
            )

    def weigh(self, values: Tensor) -> Tensor:
        """Softmax of the standardised values; 0 where a value is -inf."""
        values, _ = moderated(values)  # returns near the end of float32's range overflow in a variance
        top = values.amax(dim=1, keepdim=True)
        # values that differ only by rounding are ties; without a floor the softmax would amplify them
        least = torch.finfo(values.dtype).eps * 100.0 * top.abs() + torch.finfo(values.dtype).tiny
        std = torch.maximum(finite_std(values)[:, None], least)
        return torch.softmax((values - top) / (self.temperature * std), dim=1)
