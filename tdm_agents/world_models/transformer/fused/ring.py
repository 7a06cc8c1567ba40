"""Keys and values of what each candidate imagines, in one place a token, for :mod:`.attention`.

Where PyTorch's products read rows that lie apart in memory slowly, this loop does not: nothing has to be
packed, and what is not written yet is not read.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tdm_agents.world_models.transformer.cache import Grouping, Prefix
from tdm_agents.world_models.transformer.fused.attention import attention
from tdm_agents.world_models.transformer.fused.vectors import PANEL
from tdm_agents.world_models.transformer.network import Block
from tdm_agents.world_models.transformer.suffix import Room


@dataclass(frozen=True, slots=True)
class PanelPrefix:
    """What ``B`` environments' histories left behind, as the loop reads it; shared, read-only.

    Attributes:
        keys: A layer, ``[B, heads, panels, head_dim, PANEL]``: of :data:`.vectors.PANEL` tokens at a time,
            one coordinate of all after another. Zero behind the last token.
        values: A layer, ``[B, heads, P, head_dim]``.
        first: ``[B]`` int64, the first token that is not padding.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    first: Tensor

    @staticmethod
    def of(prefix: Prefix) -> PanelPrefix:
        """The same keys and values, copied. Padding comes first."""
        keys, values = [], []
        for layer in prefix.layers:
            key, value = layer.transpose(1, 2)  # [B, heads, P, head_dim] each
            padded = torch.nn.functional.pad(key, (0, 0, 0, -key.shape[2] % PANEL))
            panels = padded.unflatten(2, (-1, PANEL)).transpose(3, 4)
            keys.append(panels.contiguous())
            values.append(value.contiguous())
        first = torch.zeros(prefix.batch, dtype=torch.int64)
        if prefix.visible is not None:
            first = (~prefix.visible).sum(dim=1)
        return PanelPrefix(tuple(keys), tuple(values), first)

    @property
    def batch(self) -> int:
        """``B``."""
        return len(self.first)

    @property
    def tokens(self) -> int:
        """``P``."""
        return self.values[0].shape[2]


class Ring:
    """Each row's own keys and values; a token's place is its number, once around the attention band.

    Args:
        prefix: That the rows continue.
        rows: ``N``.
        room: Of what a layer holds.

    Attributes:
        written: Tokens so far, those that have left included.
        layers: Keys and values a layer, ``[2, N, capacity, width]``; undefined where nothing is written.
    """

    def __init__(self, prefix: PanelPrefix, rows: int, room: Room) -> None:
        _, heads, _, head_dim = prefix.values[0].shape
        self.written = 0
        self._heads, self._capacity = heads, room.most
        self.layers = [_empty((2, rows, room.most, heads * head_dim)) for _ in prefix.values]

    @property
    def nbytes(self) -> int:
        """Of all layers."""
        return sum(layer.nbytes for layer in self.layers)

    def take(self, rows: Tensor) -> Ring:
        """Copies of the given rows."""
        taken, written = copy.copy(self), min(self.written, self._capacity)
        taken.layers = []
        for layer in self.layers:
            new = _empty((2, len(rows), *layer.shape[2:]))
            for into, old in zip(new, layer, strict=True):
                into[:, :written] = old[rows, :written]
            taken.layers.append(new)
        return taken

    @staticmethod
    def projection(block: Block, rotation: Tensor) -> Tensor:
        """As :meth:`Block.step_projection`, as one matrix ``[d, 3 d]``, for weights that are powers of 2."""
        project = block.step_projection(rotation).clone()
        project[: block.heads] *= math.log2(math.e)
        return project.transpose(0, 1).flatten(1)

    def look(
        self,
        prefix: PanelPrefix,
        grouping: Grouping,
        projections: tuple[Tensor, ...],
        *,
        first: int,
        chunk: int,
        inside: int,
    ) -> RingSeen:
        """As :meth:`.suffix.Suffix.look`."""
        return RingSeen(
            projections=projections,
            own=self.layers,
            place=self.written % self._capacity,
            start=(self.written + chunk - inside) % self._capacity,
            inside=inside,
            prefix=prefix,
            prefix_of=grouping.prefix_of.numpy(),
            first=prefix.first.clamp(min=first).clamp(max=prefix.tokens).numpy(),
            heads=self._heads,
        )


@dataclass(frozen=True, slots=True)
class RingSeen:
    """What new tokens of every row see; as :class:`.seen.Seen`, with what :func:`.attention.attention` wants."""

    projections: tuple[Tensor, ...]
    own: list[Tensor]
    place: int
    start: int
    inside: int
    prefix: PanelPrefix
    prefix_of: np.ndarray
    first: np.ndarray
    heads: int

    def through(self, index: int, block: Block, x: Tensor, outputs: int) -> Tensor:
        """As :meth:`.seen.Seen.through`."""
        rows, chunk, width = x.shape
        new = block.attention_norm(x).flatten(0, 1) @ self.projections[index]  # [N c, 3 d]
        attended = x.new_empty((rows * outputs, width))
        attention(self.heads, width // self.heads)(
            new.numpy(),
            chunk,
            outputs,
            self.own[index].numpy(),
            self.place,
            self.start,
            self.inside,
            self.prefix.keys[index].numpy(),
            self.prefix.values[index].numpy(),
            self.prefix_of,
            self.first,
            attended.numpy(),
            0,
            rows,
        )
        return block.finish(x[:, -outputs:].flatten(0, 1), attended).view(rows, outputs, width)


def _empty(shape: tuple[int, ...]) -> Tensor:
    """Memory of NumPy's, which asks the system for huge pages: fewer to clear, and to look up."""
    return torch.from_numpy(np.empty(shape, dtype=np.float32))
