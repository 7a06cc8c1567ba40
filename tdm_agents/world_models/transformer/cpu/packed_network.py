"""A network's weights for the loop in bfloat16, packed once and again only after they have changed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tdm_agents.world_models.transformer.cpu.layers_loop import head
from tdm_agents.world_models.transformer.cpu.tiles import SHAPES, packed
from tdm_agents.world_models.transformer.network import Block, TransformerNetwork


@dataclass(frozen=True, slots=True, eq=False)
class PackedNetwork:
    """Weights of blocks, last norm and output layer.

    Attributes:
        layers: Per block, its six tensors in the order of :class:`.layer_arguments.LayerArgument`.
        norm: ``[2, d]``, gain and shift of the last norm.
        head: The packed weights of the output layer.
        bins: Columns of the output layer.
        feedforward: Hidden width of the GEGLU.
    """

    layers: tuple[tuple[Tensor, ...], ...]
    norm: Tensor
    head: Tensor
    bins: int
    feedforward: int

    @staticmethod
    def of(network: TransformerNetwork) -> PackedNetwork:
        """The packed weights of a network on a CPU; not packed again while they stay the same."""
        state = _State.of(network)
        known = _PACKED.get(network)
        if known is None or not known[0].same(state):
            known = _PACKED[network] = state, _pack(network)
        return known[1]

    def logits(self, hidden: Tensor) -> Tensor:
        """:meth:`TransformerNetwork.logits` of ``[..., d]``."""
        rows = hidden.reshape(-1, hidden.shape[-1]).contiguous()
        logits = torch.empty((len(rows), self.bins), dtype=torch.float32, device="cpu")
        head()(rows.numpy(), self.head.data_ptr(), logits.numpy(), SHAPES.ctypes.data)
        return logits.view(*hidden.shape[:-1], self.bins)


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """What tells whether weights have changed.

    PyTorch counts changes in place, but not those of fused optimizers. So the vectors among the weights,
    gains and shifts of norms, are compared too: an update changes them, and they are few.
    """

    versions: tuple[tuple[int, int], ...]
    vectors: Tensor

    @staticmethod
    def of(network: TransformerNetwork) -> _State:
        weights = list(network.parameters())
        return _State(
            tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in weights),
            torch.cat([p.detach() for p in weights if p.ndim == 1]),
        )

    def same(self, other: _State) -> bool:
        return self.versions == other.versions and torch.equal(self.vectors, other.vectors)


_PACKED: WeakKeyDictionary[TransformerNetwork, tuple[_State, PackedNetwork]] = WeakKeyDictionary()


@torch.no_grad()
def _pack(network: TransformerNetwork) -> PackedNetwork:
    return PackedNetwork(
        layers=tuple(_layer(block) for block in network.blocks if isinstance(block, Block)),
        norm=_norm(network.norm),
        head=packed(network.head.weight),
        bins=network.config.bins,
        feedforward=network.config.feedforward,
    )


def _layer(block: Block) -> tuple[Tensor, ...]:
    width = block.qkv.in_features
    qkv = block.qkv.weight.detach().clone()
    # products of queries and keys become logarithms of weights, to base 2
    qkv[:width] *= math.log2(math.e) * (width // block.heads) ** -0.5
    return (
        _norm(block.attention_norm),
        packed(qkv),
        packed(block.attention_out.weight),
        _norm(block.feedforward_norm),
        packed(block.feedforward_in.weight),
        packed(block.feedforward_out.weight),
    )


def _norm(norm: nn.LayerNorm) -> Tensor:
    return torch.stack([norm.weight, norm.bias]).detach().contiguous()
