"""Keys and values of what each candidate imagines, in one place a token, for :mod:`.attention`.

Where PyTorch's products read rows that lie apart in memory slowly, this loop does not: nothing has to be
packed, and what is not written yet is not read.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tdm_agents.world_models.transformer.cache import Grouping
from tdm_agents.world_models.transformer.fused import PANEL
from tdm_agents.world_models.transformer.fused.arguments import table
from tdm_agents.world_models.transformer.fused.attention import attention
from tdm_agents.world_models.transformer.fused.pages import in_huge_pages
from tdm_agents.world_models.transformer.fused.registers import ROWS
from tdm_agents.world_models.transformer.fused.threads import in_threads, thread_functions
from tdm_agents.world_models.transformer.network import Block
from tdm_agents.world_models.transformer.suffix import Room


@dataclass(frozen=True, slots=True)
class PanelPrefix:
    """What ``B`` environments' histories left behind, as the loop reads it; shared, read-only.

    Attributes:
        keys: A layer, ``[B, heads, panels, head_dim, PANEL]``: of :data:`.PANEL` tokens at a time, one
            coordinate of all after another. Zero behind the last token.
        values: A layer, ``[B, heads, P, head_dim]``.
        first: ``[B]`` int64, the first token that is not padding.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    first: Tensor

    @staticmethod
    def of(layers: list[Tensor], visible: Tensor | None) -> PanelPrefix:
        """From a :class:`.cache.Prefix`' keys and values, which are taken out of the list one by one.

        Args:
            layers: As the prefix has them.
            visible: As the prefix has it; padding comes first.
        """
        keys, values = [], []
        first = torch.zeros(layers[0].shape[2], dtype=torch.int64)
        while layers:
            key, value = layers.pop(0).transpose(1, 2)  # [B, heads, P, head_dim] each
            padded = torch.nn.functional.pad(key, (0, 0, 0, -key.shape[2] % PANEL))
            panels = padded.view(*padded.shape[:2], -1, PANEL, padded.shape[3]).transpose(3, 4)
            keys.append(panels.contiguous())
            values.append(value.clone(memory_format=torch.contiguous_format))
        if visible is not None:
            first = (~visible).sum(dim=1)
        return PanelPrefix(tuple(keys), tuple(values), first)

    @property
    def batch(self) -> int:
        """``B``."""
        return len(self.first)

    @property
    def tokens(self) -> int:
        """``P``."""
        return self.values[0].shape[2]

    @property
    def nbytes(self) -> int:
        """Of keys and values."""
        return sum(x.untyped_storage().nbytes() for x in (*self.keys, *self.values))


class Ring:
    """Each row's own keys and values; a token's place is its number, once around the attention band.

    Args:
        prefix: That the rows continue.
        rows: ``N``.
        room: Of what a layer holds.

    Attributes:
        written: Tokens so far, those that have left included.
        layers: Keys and values a layer, ``[N, 2, capacity, width]``; undefined where nothing is written.
    """

    def __init__(self, prefix: PanelPrefix, rows: int, room: Room) -> None:
        _, heads, _, head_dim = prefix.values[0].shape
        self.written = 0
        self._prefix, self._heads, self._capacity = prefix, heads, room.most
        shape = (rows, 2, room.most, heads * head_dim)
        self.layers = [in_huge_pages(value.new_empty(shape)) for value in prefix.values]

    @property
    def nbytes(self) -> int:
        """Of all layers."""
        return sum(layer.nbytes for layer in self.layers)

    def take(self, rows: Tensor) -> Ring:
        """Copies of the given rows."""
        taken, written = copy.copy(self), min(self.written, self._capacity)
        taken.layers = []
        for layer in self.layers:
            new = in_huge_pages(layer.new_empty((len(rows), *layer.shape[1:])))
            torch.index_select(layer[:, :, :written], 0, rows, out=new[:, :, :written])
            taken.layers.append(new)
        return taken

    @staticmethod
    def projection(block: Block, rotation: Tensor) -> Tensor:
        """As :meth:`Block.step_projection`, as one matrix ``[d, 3 d]``, for weights that are powers of 2."""
        scaled = rotation.clone()
        scaled[: block.heads] *= math.log2(math.e)
        return block.step_projection(scaled).transpose(0, 1).flatten(1)

    def look(
        self,
        grouping: Grouping,
        projections: tuple[Tensor, ...],
        *,
        first: int,
        chunk: int,
        inside: int,
    ) -> RingSeen:
        """As :meth:`.suffix.Suffix.look`."""
        prefix = self._prefix
        return RingSeen(
            projections=projections,
            own=self.layers,
            place=self.written % self._capacity,
            start=(self.written + chunk - inside) % self._capacity,
            seen=inside,
            prefix=prefix,
            prefix_of=grouping.prefix_of,
            first=prefix.first.clamp(min=first).clamp(max=prefix.tokens),
            heads=self._heads,
        )


@dataclass(frozen=True, slots=True)
class RingSeen:
    """What new tokens of every row see; the attributes are arguments of :mod:`.attention`."""

    projections: tuple[Tensor, ...]
    own: list[Tensor]
    place: int
    start: int
    seen: int
    prefix: PanelPrefix
    prefix_of: Tensor
    first: Tensor
    heads: int

    def through(self, index: int, block: Block, x: Tensor, outputs: int) -> Tensor:
        """As :meth:`.seen.Seen.through`.

        Raises:
            TypeError: If projections are of another type than float32, as under ``torch.autocast``.
        """
        rows, chunk, width = x.shape
        new = block.attention_norm(x).flatten(0, 1) @ self.projections[index]  # [N c, 3 d]
        if new.dtype != torch.float32:
            raise TypeError(f"queries are {new.dtype}; expected torch.float32: plan outside of autocast")
        attended = new.new_empty((rows * outputs, width))
        own, keys, values = self.own[index], self.prefix.keys[index], self.prefix.values[index]
        number, count = thread_functions()
        arguments = table(
            new=new.data_ptr(),
            own=own.data_ptr(),
            keys=keys.data_ptr(),
            values=values.data_ptr(),
            prefix_of=self.prefix_of.data_ptr(),
            first=self.first.data_ptr(),
            out=attended.data_ptr(),
            rows=rows,
            chunk=chunk,
            outputs=outputs,
            capacity=own.shape[2],
            batch=len(keys),
            length=values.shape[2],
            place=self.place,
            start=self.start,
            seen=self.seen,
            thread_number=number,
            thread_count=count,
        )
        function = attention(self.heads, width // self.heads).address
        in_threads(function, arguments.ctypes.data, parts=-(-rows // ROWS))
        return block.finish(x[:, -outputs:].flatten(0, 1), attended).view(rows, outputs, width)
