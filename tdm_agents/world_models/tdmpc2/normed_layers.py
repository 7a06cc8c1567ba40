"""The layers of TD-MPC2: linear, LayerNorm, Mish; and latent states whose groups sum to 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tdm_agents.world_models.tdmpc2.activations import normed

INITIAL_STD = 0.02


class NormedLinear(nn.Module):
    """A linear layer, a LayerNorm, and Mish or SimNorm.

    Args:
        inputs: Scalars in.
        outputs: Scalars out.
        generator: Of the weights.
        group: Scalars that SimNorm makes sum to 1; 0 for Mish.
    """

    def __init__(self, inputs: int, outputs: int, *, generator: torch.Generator, group: int = 0) -> None:
        super().__init__()
        self.linear = linear(inputs, outputs, generator=generator)
        self.norm = nn.LayerNorm(outputs, device="cpu", dtype=torch.float32)
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """``[..., inputs]`` to ``[..., outputs]``."""
        return normed(self.linear(x), self.norm.weight, self.norm.bias, group=self.group)


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
    """Normed layers throughout, the last of which ends in SimNorm instead of Mish."""
    widths = [inputs, *hidden]
    layers = [NormedLinear(i, o, generator=generator) for i, o in zip(widths, hidden, strict=False)]
    last = NormedLinear(widths[-1], outputs, generator=generator, group=group)
    return nn.Sequential(*layers, last)
