"""The layers of TD-MPC2: linear, LayerNorm, Mish; and latent states whose groups sum to 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INITIAL_STD = 0.02
Activation = Callable[[Tensor], Tensor]


def sim_norm(x: Tensor, group: int) -> Tensor:
    """Softmax over consecutive groups of ``group`` scalars: ``[..., d]``, all of it at least 0."""
    groups = x.reshape(*x.shape[:-1], -1, group)
    return torch.softmax(groups, dim=-1).flatten(-2)


class NormedLinear(nn.Module):
    """A linear layer, a LayerNorm and an activation.

    Args:
        inputs: Scalars in.
        outputs: Scalars out.
        generator: Of the weights.
        activation: By default Mish.
    """

    def __init__(
        self, inputs: int, outputs: int, *, generator: torch.Generator, activation: Activation = F.mish
    ) -> None:
        super().__init__()
        self.linear = linear(inputs, outputs, generator=generator)
        self.norm = nn.LayerNorm(outputs, device="cpu", dtype=torch.float32)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """``[..., inputs]`` to ``[..., outputs]``."""
        return self.activation(self.norm(self.linear(x)))


def linear(inputs: int, outputs: int, *, generator: torch.Generator, zero: bool = False) -> nn.Linear:
    """A linear layer with weights of a truncated normal distribution, or of 0; its biases are 0."""
    # on another device it would draw from the global state
    layer = nn.Linear(inputs, outputs, device="meta", dtype=torch.float32)
    layer.weight = nn.Parameter(torch.empty(outputs, inputs, device="cpu", dtype=torch.float32))
    layer.bias = nn.Parameter(torch.zeros(outputs, device="cpu", dtype=torch.float32))
    if zero:
        nn.init.zeros_(layer.weight)
    else:
        nn.init.trunc_normal_(layer.weight, std=INITIAL_STD, generator=generator)
    return layer


def perceptron(
    inputs: int, hidden: Sequence[int], outputs: int, *, generator: torch.Generator, zero: bool = False
) -> nn.Sequential:
    """Normed layers of the widths ``hidden`` and a plain linear one, which ``zero`` starts at 0."""
    widths = [inputs, *hidden]
    layers: list[nn.Module] = [
        NormedLinear(i, o, generator=generator) for i, o in zip(widths, hidden, strict=False)
    ]
    return nn.Sequential(*layers, linear(widths[-1], outputs, generator=generator, zero=zero))


def latent_perceptron(
    inputs: int, hidden: Sequence[int], outputs: int, *, group: int, generator: torch.Generator
) -> nn.Sequential:
    """Normed layers throughout, the last of which ends in :func:`sim_norm` instead of Mish."""
    widths = [inputs, *hidden]
    layers = [NormedLinear(i, o, generator=generator) for i, o in zip(widths, hidden, strict=False)]
    last = NormedLinear(widths[-1], outputs, generator=generator, activation=lambda x: sim_norm(x, group))
    return nn.Sequential(*layers, last)
