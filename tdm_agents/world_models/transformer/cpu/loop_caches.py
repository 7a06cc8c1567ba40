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
from tdm_agents.world_models.transformer.cpu.loop_view import LoopView, Past
from tdm_agents.world_models.transformer.cpu.pages import in_huge_pages
from tdm_agents.world_models.transformer.decoding.cache import Capacity
from tdm_agents.world_models.transformer.decoding.grouping import Grouping
from tdm_agents.world_models.transformer.decoding.token_view import View
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
    """Keys and values of what each row imagined.

    Rows that are taken share what they were taken from, which nobody writes to any more, and keep their next
    tokens apart. Only the tokens of an unfinished decision step are copied.

    Args:
        history: The histories that the rows continue.
        rows: ``N``, the number of rows.
        capacity: Number of tokens that a layer holds.

    Attributes:
        written: Number of tokens so far, those that have left the band included.
        past: What the rows share with others, the earliest first; nothing if all tokens are their own.
        layers: Keys and values per layer of the tokens since, ``[N, 2, C, width]``; a ring, undefined where
            nothing is written. None until the next token after a :meth:`take`.
    """

    def __init__(self, history: PanelHistory, rows: int, capacity: Capacity) -> None:
        self.written = 0
        self.past: tuple[Past, ...] = ()
        self._history, self._rows, self._capacity = history, rows, capacity
        self.layers: list[Tensor] | None = self._empty(rows, capacity.most)

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values, those not written yet and those of other rows included."""
        layers = [*(self.layers or ()), *(layer for past in self.past for layer in past.layers)]
        return sum(layer.nbytes for layer in layers)

    @property
    def _begun(self) -> int:
        """Number of the first token that is the rows' own."""
        return self.past[-1].end if self.past else 0

    def take(self, rows: Tensor) -> RingImagined:
        """The given rows, whose next tokens are their own.

        Args:
            rows: ``[N']`` int64.
        """
        own = self.written - self._begun
        # a few tokens are copied, so that parts stay few; not with room for all of the band, most of it empty
        if self.layers is not None and own > 0 and (not self.past or 2 * own >= self._capacity.step):
            self._share(self.layers)
            own = 0
        taken = copy.copy(self)
        taken._rows, taken.past = len(rows), tuple(past.take(rows) for past in self.past)
        if self.layers is not None:
            taken.layers = self._empty(len(rows), self.layers[0].shape[2])
            for new, layer in zip(taken.layers, self.layers, strict=True):
                torch.index_select(layer[:, :, :own], 0, rows, out=new[:, :, :own])
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
        room, begun, since = own[0].shape[2], self._begun, self.written + chunk - inside
        return LoopView(
            projections=projections,
            own=own,
            place=(self.written - begun) % room,
            start=(max(since, begun) - begun) % room,
            seen=inside,
            past=tuple(part for part in self.past if part.end > since),
            since=since,
            whole=self._capacity.whole,
            keys=history.keys,
            values=history.values,
            history_of=grouping.history_of,
            first=history.first.clamp(min=first).clamp(max=history.tokens),
        )

    def _share(self, layers: list[Tensor]) -> None:
        """Make the rows' own tokens a part of the past, of which what has left the band is forgotten."""
        every = torch.arange(self._rows, device="cpu")
        part = Past(layers, every, self._begun, self.written)
        left = self.written - self._capacity.band
        self.past = (*(earlier for earlier in self.past if earlier.end > left), part)
        self.layers = None

    def _room_for(self, chunk: int) -> list[Tensor]:
        """The layers that the next tokens are written to, after making room for them."""
        most = self._capacity.most
        room = min(self._capacity.step, most)  # a search takes rows again after a step
        if self.layers is not None and self.layers[0].shape[2] < most:
            if self.written - self._begun + chunk <= self.layers[0].shape[2]:
                return self.layers
            self._share(self.layers)
            room = most  # who goes on without being taken gets room for all of the band
        if self.layers is None:
            self.layers = self._empty(self._rows, room)
        return self.layers

    def _empty(self, rows: int, tokens: int) -> list[Tensor]:
        """Layers of that many rows and tokens; undefined."""
        _, heads, _, head_dim = self._history.values[0].shape
        shape = (rows, 2, tokens, heads * head_dim)
        return [in_huge_pages(value.new_empty(shape)) for value in self._history.values]
