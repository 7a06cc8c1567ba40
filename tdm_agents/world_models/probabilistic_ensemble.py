"""The network of PETS: networks of one shape, computed together, each of which predicts normal distributions.

Source: Chua et al. 2018 (arXiv:1805.12114) and its appendix: swish, initial weights from a truncated normal
distribution of standard deviation ``1 / (2 sqrt(inputs))``, and bounds of the log-variance that are learned.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class EnsembleLinear(nn.Module):
    """One linear layer per member, as a single batched product.

    Args:
        members: ``E``.
        inputs: ``i``.
        outputs: ``o``.
        generator: Of the initial weights.
    """

    def __init__(self, members: int, inputs: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs, device="cpu", dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(members, outputs, device="cpu", dtype=torch.float32))
        std = 0.5 * inputs**-0.5
        nn.init.trunc_normal_(self.weight, std=std, a=-2 * std, b=2 * std, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """``[E, R, i]`` to ``[E, R, o]``."""
        return torch.baddbmm(self.bias[:, None], x, self.weight)


class ProbabilisticEnsemble(nn.Module):
    """``E`` networks that predict ``k`` independent normal distributions and one logit.

    Args:
        members: ``E``, at least 1.
        inputs: ``i``.
        outputs: ``k``.
        hidden: Width of the hidden layers.
        layers: Number of hidden layers.
        seed: Of the initial weights.
    """

    def __init__(
        self, *, members: int, inputs: int, outputs: int, hidden: int, layers: int, seed: int
    ) -> None:
        super().__init__()
        self.members = members
        self.outputs = outputs
        generator = torch.Generator("cpu").manual_seed(int(seed))
        widths = [inputs, *[hidden] * layers, 2 * outputs + 1]
        self.layers = nn.ModuleList(
            EnsembleLinear(members, i, o, generator) for i, o in itertools.pairwise(widths)
        )
        # of targets with unit variance; the values that the paper's code begins with
        self.max_log_variance = nn.Parameter(torch.full((outputs,), 0.5, device="cpu", dtype=torch.float32))
        self.min_log_variance = nn.Parameter(torch.full((outputs,), -10.0, device="cpu", dtype=torch.float32))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What each member predicts.

        Args:
            x: ``[E, R, i]``, or ``[R, i]`` for all members alike.

        Returns:
            Means ``[E, R, k]``, log-variances ``[E, R, k]`` and logits ``[E, R]``, float32.
        """
        x = x.expand(self.members, -1, -1)
        *hidden, last = self.layers
        for layer in hidden:
            x = F.silu(layer(x))
        k = self.outputs
        mean, log_variance, logit = last(x).float().split([k, k, 1], dim=-1)
        return mean, self.bounded(log_variance), logit.squeeze(-1)

    def bounded(self, log_variance: Tensor) -> Tensor:
        """Log-variances ``[..., k]`` softly between the learned bounds.

        The lower bound is exact; the upper one is exceeded by ``log(1 + exp(min - max))`` at most.
        """
        low, high = self.min_log_variance, self.max_log_variance
        below = high - F.softplus(high - log_variance)
        return low + F.softplus(below - low)

    def width_of_bounds(self) -> Tensor:
        """The sum of how far the bounds are apart, which training keeps small."""
        return (self.max_log_variance - self.min_log_variance).sum()
