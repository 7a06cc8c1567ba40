"""Several value networks whose layers are one batched product each."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from tdm_agents.world_models.tdmpc2.activations import normed
from tdm_agents.world_models.tdmpc2.normed_layers import INITIAL_STD

Members = Tensor | slice
"""Which networks of an ensemble: int64 indices, or a slice, which copies no weights."""
EVERY = slice(None)
FIRST_TWO = slice(0, 2)


class QEnsemble(nn.Module):
    """Perceptrons of two hidden layers with LayerNorm and Mish; their last layers start at 0.

    The last layers always compute in float32.

    Args:
        inputs: Scalars in.
        width: Of the hidden layers.
        outputs: Scalars out.
        members: How many perceptrons, ``E``.
        dropout: In the first layer, between product and LayerNorm.
        generator: Of the weights.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        outputs: int,
        *,
        members: int,
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.width = width
        widths = (inputs, width, width, outputs)
        self.weights = nn.ParameterList(
            torch.empty(members, i, o, device="cpu", dtype=torch.float32)
            for i, o in itertools.pairwise(widths)
        )  # [E, in, out]
        self.biases = nn.ParameterList(
            torch.zeros(members, o, device="cpu", dtype=torch.float32) for o in widths[1:]
        )  # [E, out]
        self.gains = nn.ParameterList(
            torch.ones(members, width, device="cpu", dtype=torch.float32) for _ in range(2)
        )
        self.shifts = nn.ParameterList(
            torch.zeros(members, width, device="cpu", dtype=torch.float32) for _ in range(2)
        )
        for weight in list(self.weights)[:-1]:
            nn.init.trunc_normal_(weight, std=INITIAL_STD, generator=generator)
        nn.init.zeros_(self.weights[-1])

    def forward(
        self, x: Tensor, *, members: Members = EVERY, generator: torch.Generator | None = None
    ) -> Tensor:
        """What each of the chosen members says.

        Args:
            x: ``[..., inputs]``.
            members: Which ones, ``E'``.
            generator: Of the dropout; None drops nothing.

        Returns:
            ``[E', ..., outputs]``.
        """
        lead = x.shape[:-1]
        rows = x.flatten(0, -2)  # [R, inputs]
        y = rows.expand(self.weights[0][members].shape[0], *rows.shape)  # [E', R, inputs]
        for layer in range(2):
            y = self._product(y, layer, members)
            if layer == 0 and generator is not None and self.dropout > 0:
                drawn = torch.rand(y.shape, generator=generator, device=y.device, dtype=torch.float32)
                # not divided by the share that is left: LayerNorm would undo it
                y = y.masked_fill(drawn < self.dropout, 0)
            y = normed(y, self.gains[layer][members], self.shifts[layer][members])
        # values are learned from values, so that what is rounded off here would add up over the future
        with torch.autocast(y.device.type, enabled=False):
            y = self._product(y.float(), 2, members)
        return y.reshape(y.shape[0], *lead, y.shape[-1])

    def _product(self, x: Tensor, layer: int, members: Members) -> Tensor:
        return torch.baddbmm(self.biases[layer][members][:, None], x, self.weights[layer][members])


def two_of(members: int, generator: torch.Generator | None) -> Members:
    """Two random members; the first two without a generator."""
    if generator is None or members == 2:
        return FIRST_TWO
    return torch.randperm(members, generator=generator, device=generator.device)[:2]
