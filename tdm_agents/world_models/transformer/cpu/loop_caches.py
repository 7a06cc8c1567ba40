"""Keys and values as the compiled loop reads them (:mod:`.attention_loop`), each token in one place.

PyTorch's products are slow on rows that are apart in memory; this loop is not. Nothing has to be packed,
and what is not written yet is not read.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
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


@dataclass(frozen=True, slots=True)
class Past:
    """Keys and values that rows imagined before they were taken; read only, shared by all who continue them.

    Attributes:
        layers: Per layer ``[M, 2, D, width]``; a token's place is its number modulo ``D``.
        rows: ``[N]`` int64, the row that each row continues.
        written: Number of tokens before those that rows hold themselves.
    """

    layers: list[Tensor]
    rows: Tensor
    written: int


class RingImagined:
    """Keys and values of what each row imagined; a token's place is its number modulo the attention band.

    Rows that are taken share what they were taken from, which nobody writes to any more: who continues it
    keeps its next tokens apart, until there are more than those of a decision step.

    Args:
        history: The histories that the rows continue.
        rows: ``N``, the number of rows.
        capacity: Number of tokens that a layer holds.

    Attributes:
        written: Number of tokens so far, those that have left the band included.
        layers: Keys and values per layer that are the rows' own, ``[N, 2, C, width]``, those after the past;
            undefined where nothing is written. None until the next token where there is a past.
        past: What the rows share with others; None if all tokens are their own.
    """

    def __init__(self, history: PanelHistory, rows: int, capacity: Capacity) -> None:
        self.written = 0
        self.past: Past | None = None
        self._history, self._rows, self._capacity = history, rows, capacity
        self.layers: list[Tensor] | None = self._empty(rows, capacity.most)

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values, those not written yet included."""
        shared = self.past.layers if self.past else []
        return sum(layer.nbytes for layer in (*(self.layers or ()), *shared))

    @property
    def _own(self) -> int:
        """Number of the rows' own tokens, those that have left the band included."""
        return self.written - (self.past.written if self.past else 0)

    def take(self, rows: Tensor) -> RingImagined:
        """The given rows, which share what these have imagined; their next tokens are their own.

        Args:
            rows: ``[N']`` int64.
        """
        taken = copy.copy(self)
        taken._rows = len(rows)
        if self.written == 0:
            taken.layers = self._empty(len(rows), self._capacity.most)
        elif self.past is None:
            assert self.layers is not None
            layers = self.layers
            self._continue(Past(layers, torch.arange(self._rows), self.written))
            taken._continue(Past(layers, rows, self.written))
        elif 2 * self._own < self._capacity.step:
            taken.past = Past(self.past.layers, self.past.rows[rows], self.past.written)
            if self.layers is not None:
                taken.layers = self._empty(len(rows), self.layers[0].shape[2])
                for new, layer in zip(taken.layers, self.layers, strict=True):
                    torch.index_select(layer[:, :, : self._own], 0, rows, out=new[:, :, : self._own])
        else:
            taken._continue(Past(self._joined(rows), torch.arange(len(rows)), self.written))
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
        history, own = self._history, self._room_for(chunk)
        room, past, before = own[0].shape[2], own, 0
        past_of = grouping.history_of  # not read
        if self.past is not None:
            past, past_of = self.past.layers, self.past.rows
            before = inside - min(inside, self._own + chunk)
        return LoopView(
            projections=projections,
            own=own,
            place=self._own % room,
            start=(self._own + chunk - (inside - before)) % room,
            seen=inside,
            past=past,
            past_of=past_of,
            past_start=(self.written - self._own - before) % past[0].shape[2],
            past_seen=before,
            whole=self._capacity.whole,
            history=history,
            history_of=grouping.history_of,
            first=history.first.clamp(min=first).clamp(max=history.tokens),
        )

    def _continue(self, past: Past) -> None:
        """Go on after ``past``, without tokens of one's own."""
        self.past, self.layers = past, None

    def _room_for(self, chunk: int) -> list[Tensor]:
        """The layers that the next tokens are written to, after making room for them."""
        step, most = self._capacity.step, self._capacity.most
        if self.layers is None:
            self.layers = self._empty(self._rows, max(min(step, most), chunk))
        elif self.past is not None and self._own + chunk > self.layers[0].shape[2]:
            self.layers, self.past = self._joined(torch.arange(self._rows)), None
        return self.layers

    def _joined(self, rows: Tensor) -> list[Tensor]:
        """The past of the given rows and their own tokens, in layers that hold all of the band."""
        assert self.past is not None
        most, before, own = self._capacity.most, self.past.written, self._own
        joined = self._empty(len(rows), most)
        for index, (new, past) in enumerate(zip(joined, self.past.layers, strict=True)):
            some = min(before, most)
            torch.index_select(past[:, :, :some], 0, self.past.rows[rows], out=new[:, :, :some])
            for into, begin, end in _ring(before, own, most):
                assert self.layers is not None
                layer, place = self.layers[index][:, :, begin:end], new[:, :, into : into + end - begin]
                torch.index_select(layer, 0, rows, out=place)
        return joined

    def _empty(self, rows: int, tokens: int) -> list[Tensor]:
        """Layers of that many rows and tokens; undefined."""
        _, heads, _, head_dim = self._history.values[0].shape
        shape = (rows, 2, tokens, heads * head_dim)
        return [in_huge_pages(value.new_empty(shape)) for value in self._history.values]


def _ring(first: int, count: int, size: int) -> Iterator[tuple[int, int, int]]:
    """The pieces in which tokens, from number ``first`` on, go into a ring: place, and which of them."""
    begin = 0
    while begin < count:
        into = (first + begin) % size
        end = min(count, begin + size - into)
        yield into, begin, end
        begin = end


@dataclass(frozen=True, slots=True)
class LoopView:
    """The view of new tokens for the loop; its attributes are the loop's :mod:`.arguments`."""

    projections: tuple[Tensor, ...]
    own: list[Tensor]
    place: int
    start: int
    seen: int
    past: list[Tensor]
    past_of: Tensor
    past_start: int
    past_seen: int
    whole: bool
    history: PanelHistory
    history_of: Tensor
    first: Tensor

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
        own, past = self.own[index], self.past[index]
        keys, values = self.history.keys[index], self.history.values[index]
        number, count = thread_functions()
        arguments = table(
            new=new.data_ptr(),
            own=own.data_ptr(),
            past=past.data_ptr(),
            keys=keys.data_ptr(),
            values=values.data_ptr(),
            history_of=self.history_of.data_ptr(),
            past_of=self.past_of.data_ptr(),
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
            past_capacity=past.shape[2],
            past_start=self.past_start,
            past_seen=self.past_seen,
            whole=self.whole,
            thread_number=number,
            thread_count=count,
        )
        _, heads, _, head_dim = values.shape
        function = attention(heads, head_dim).address
        in_threads(function, arguments.ctypes.data, parts=-(-rows // ROWS))
        return block.finish(x[:, -outputs:].flatten(0, 1), attended).view(rows, outputs, width)
