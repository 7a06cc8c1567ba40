"""Keys and values as the compiled loop reads them (:mod:`.attention_loop`), each token in one place.

PyTorch's products are slow on rows that are apart in memory; this loop is not. Nothing has to be packed,
and what is not written yet is not read.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tdm_agents.world_models.transformer.cpu import PANEL
from tdm_agents.world_models.transformer.cpu.arguments import table
from tdm_agents.world_models.transformer.cpu.attention_loop import attention
from tdm_agents.world_models.transformer.cpu.openmp import in_threads, thread_functions
from tdm_agents.world_models.transformer.cpu.pages import in_huge_pages
from tdm_agents.world_models.transformer.cpu.registers import ROWS
from tdm_agents.world_models.transformer.decoding.cache import Capacity
from tdm_agents.world_models.transformer.decoding.grouping import Grouping
from tdm_agents.world_models.transformer.decoding.token_view import View, through_blocks
from tdm_agents.world_models.transformer.network import Block, TransformerNetwork


@dataclass(frozen=True, slots=True)
class PanelHistory:
    """Keys and values of ``B`` histories; see :class:`.cache.HistoryCache`.

    Attributes:
        keys: Per layer, ``[B, heads, panels, head_dim, PANEL]``: panels of :data:`.PANEL` tokens, each stored
            coordinate by coordinate. Zero after the last token.
        values: Per layer, ``[B, heads, P, head_dim]``.
        first: ``[B]`` int64, the first token that is not padding.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    first: Tensor

    @staticmethod
    def of(layers: list[Tensor], visible: Tensor | None) -> PanelHistory:
        """The history rearranged from keys and values, which are taken out of the list one by one.

        Args:
            layers: Keys and values, as in :class:`.packed_caches.PackedHistory`.
            visible: As in :class:`.packed_caches.PackedHistory`; padding comes first.
        """
        keys, values = [], []
        first = torch.zeros(layers[0].shape[2], dtype=torch.int64, device="cpu")
        while layers:
            key, value = layers.pop(0).transpose(1, 2)  # [B, heads, P, head_dim] each
            padded = torch.nn.functional.pad(key, (0, 0, 0, -key.shape[2] % PANEL))
            panels = padded.view(*padded.shape[:2], -1, PANEL, padded.shape[3]).transpose(3, 4)
            keys.append(panels.contiguous())
            values.append(value.clone(memory_format=torch.contiguous_format))
        if visible is not None:
            first = (~visible).sum(dim=1)
        return PanelHistory(tuple(keys), tuple(values), first)

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
        """Bytes of keys and values."""
        return sum(x.untyped_storage().nbytes() for x in (*self.keys, *self.values))

    def imagined(self, rows: int, capacity: Capacity) -> RingImagined:
        """An empty cache of rows that continue these histories."""
        return RingImagined(self, rows, capacity)


class RingImagined:
    """Keys and values of what each row imagined; a token's place is its number modulo the attention band.

    Args:
        history: The histories that the rows continue.
        rows: ``N``, the number of rows.
        capacity: Number of tokens that a layer holds.

    Attributes:
        written: Number of tokens so far, those that have left the band included.
        layers: Keys and values per layer, ``[N, 2, C, width]``; undefined where nothing is written.
    """

    def __init__(self, history: PanelHistory, rows: int, capacity: Capacity) -> None:
        _, heads, _, head_dim = history.values[0].shape
        self.written = 0
        self._history, self._heads, self._length = history, heads, capacity.most
        self._whole = capacity.whole
        shape = (rows, 2, capacity.most, heads * head_dim)
        self.layers = [in_huge_pages(value.new_empty(shape)) for value in history.values]

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values, those not written yet included."""
        return sum(layer.nbytes for layer in self.layers)

    def take(self, rows: Tensor) -> RingImagined:
        """Copies of the given rows."""
        taken, written = copy.copy(self), min(self.written, self._length)
        taken.layers = []
        for layer in self.layers:
            new = in_huge_pages(layer.new_empty((len(rows), *layer.shape[1:])))
            torch.index_select(layer[:, :, :written], 0, rows, out=new[:, :, :written])
            taken.layers.append(new)
        return taken

    @staticmethod
    def projections(network: TransformerNetwork, rotation: Tensor) -> tuple[Tensor, ...]:
        """:meth:`Block.step_projection` as one matrix ``[d, 3 d]``, for weights that are powers of 2."""
        scaled = rotation.clone()
        scaled[: network.config.heads] *= math.log2(math.e)
        blocks = (block for block in network.blocks if isinstance(block, Block))
        return tuple(block.step_projection(scaled).transpose(0, 1).flatten(1) for block in blocks)

    def view(
        self, grouping: Grouping, projections: tuple[Tensor, ...], *, first: int, chunk: int, inside: int
    ) -> View:
        """The view of the next tokens; see :meth:`.cache.ImaginedCache.view`."""
        return self._loop_view(grouping, projections, first=first, chunk=chunk, inside=inside)

    def _loop_view(
        self, grouping: Grouping, projections: tuple[Tensor, ...], *, first: int, chunk: int, inside: int
    ) -> LoopView:
        history = self._history
        return LoopView(
            projections=projections,
            own=self.layers,
            place=self.written % self._length,
            start=(self.written + chunk - inside) % self._length,
            seen=inside,
            whole=self._whole,
            history=history,
            history_of=grouping.history_of,
            first=history.first.clamp(min=first).clamp(max=history.tokens),
            heads=self._heads,
        )


@dataclass(frozen=True, slots=True)
class LoopView:
    """The view of new tokens for the loop; its attributes are the loop's :mod:`.arguments`."""

    projections: tuple[Tensor, ...]
    own: list[Tensor]
    place: int
    start: int
    seen: int
    whole: bool
    history: PanelHistory
    history_of: Tensor
    first: Tensor
    heads: int

    def hidden(self, network: TransformerNetwork, x: Tensor, outputs: int) -> Tensor:
        """New tokens through all blocks; see :meth:`.token_view.View.hidden`."""
        return through_blocks(self, network, x, outputs)

    def through(self, index: int, block: Block, x: Tensor, outputs: int) -> Tensor:
        """New tokens through one block; see :meth:`.view.View.through`.

        Raises:
            TypeError: If projections are not float32, as under ``torch.autocast``.
        """
        rows, chunk, width = x.shape
        new = block.attention_norm(x).flatten(0, 1) @ self.projections[index]  # [N c, 3 d]
        if new.dtype != torch.float32:
            raise TypeError(f"queries are {new.dtype}; expected torch.float32: plan outside of autocast")
        attended = new.new_empty((rows * outputs, width))
        own, keys, values = self.own[index], self.history.keys[index], self.history.values[index]
        number, count = thread_functions()
        arguments = table(
            new=new.data_ptr(),
            own=own.data_ptr(),
            keys=keys.data_ptr(),
            values=values.data_ptr(),
            history_of=self.history_of.data_ptr(),
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
            whole=self.whole,
            thread_number=number,
            thread_count=count,
        )
        function = attention(self.heads, width // self.heads).address
        in_threads(function, arguments.ctypes.data, parts=-(-rows // ROWS))
        return block.finish(x[:, -outputs:].flatten(0, 1), attended).view(rows, outputs, width)
