"""Caches for PyTorch's products, packed so that keys and values are read as fast as memory allows."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from tdm_agents.world_models.transformer.decoding.cache import Capacity
from tdm_agents.world_models.transformer.decoding.grouping import Grouping
from tdm_agents.world_models.transformer.decoding.products import ProductsView
from tdm_agents.world_models.transformer.network import Block, TransformerNetwork

_LEAST_AHEAD = 16
"""Fewest tokens for which a cache makes room: PyTorch multiplies fewer more slowly."""


@dataclass(frozen=True, slots=True)
class PackedHistory:
    """Keys and values of ``B`` histories; see :class:`.cache.HistoryCache`.

    Attributes:
        layers: Keys and values per layer, ``[2, heads, B, P, head_dim]``. Heads come first, so that rows that
            share a history form one matrix per head without a copy.
        visible: ``[B, P]`` bool, False on the padding of shorter histories; None if there is none.
    """

    layers: tuple[Tensor, ...]
    visible: Tensor | None

    @property
    def batch(self) -> int:
        """``B``."""
        return self.layers[0].shape[2]

    @property
    def tokens(self) -> int:
        """``P``."""
        return self.layers[0].shape[3]

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        return sum(layer.untyped_storage().nbytes() for layer in self.layers)

    def imagined(self, rows: int, capacity: Capacity) -> PackedImagined:
        """An empty cache of rows that continue these histories."""
        return PackedImagined(self, rows, capacity)


class PackedImagined:
    """Keys and values of what each row imagined, packed: they take little more memory than what is read.

    Where rows are apart in memory, even by four tokens, a CPU takes at least about twice as long to read
    them. So a layer holds the tokens that are needed and room for a few steps, and is read whole. When it is
    full, it is packed again with more room. Once it holds the whole attention band, nothing moves any more: a
    step's tokens replace those that have just left the band. The memory is fixed at the start: one block per
    layer, and one to which the next layer to be packed moves.

    Args:
        history: The histories that the rows continue.
        rows: ``N``, the number of rows.
        capacity: Number of tokens that a layer may hold.

    Attributes:
        length: Number of tokens for which a layer has room now.
        written: Number of tokens so far, those that have left the band included.
        layers: Keys and values per layer, ``[2, heads, N, length, head_dim]``; zero where nothing is written.
    """

    def __init__(self, history: PackedHistory, rows: int, capacity: Capacity) -> None:
        _, heads, _, _, head_dim = history.layers[0].shape
        self._history, self._capacity, self.length, self.written = history, capacity, 0, 0
        self._first = 0  # number of the token at place 0, or ``length`` less
        self._shape = (heads, rows, head_dim)
        numbers = 2 * heads * rows * capacity.most * head_dim
        self._blocks = [history.layers[0].new_empty(numbers) for _ in range(len(history.layers) + 1)]
        self.layers = [self._packed(block, 0) for block in self._blocks[:-1]]

    @classmethod
    def holding(
        cls,
        history: PackedHistory,
        rows: int,
        capacity: Capacity,
        *,
        written: int,
        keep: int,
        layers: Iterable[Tensor],
    ) -> PackedImagined:
        """A cache of the given last ``keep`` tokens, ``[2, heads, N, keep, head_dim]`` per layer."""
        cache = cls(history, rows, capacity)
        cache.written = written
        cache._pack(layers, keep=keep, length=capacity.most)
        return cache

    @staticmethod
    def projections(network: TransformerNetwork, rotation: Tensor) -> tuple[Tensor, ...]:
        """Each block's weights for tokens of one decision step, in the form that :meth:`view` takes."""
        blocks = (block for block in network.blocks if isinstance(block, Block))
        return tuple(block.step_projection(rotation) for block in blocks)

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values, those not written yet included."""
        return sum(block.nbytes for block in self._blocks)

    @property
    def place(self) -> int:
        """The place of the next tokens of a step."""
        return (self.written - self._first) % self.length

    def make_room(self, tokens: int, *, keep: int) -> None:
        """Make room for ``tokens`` more; of the tokens written so far, only the last ``keep`` are needed.

        Args:
            tokens: Number of new tokens, all of one decision step.
            keep: Number of tokens to keep, at most the band's tokens less ``tokens``.
        """
        capacity = self._capacity
        if self.length == capacity.band or self.written - self._first + tokens <= self.length:
            return
        length = min(keep + ahead(keep, capacity.step), capacity.most)
        start = self.written - keep - self._first
        self._pack((layer.narrow(3, start, keep) for layer in self.layers), keep=keep, length=length)

    def view(
        self, grouping: Grouping, projections: tuple[Tensor, ...], *, first: int, chunk: int, inside: int
    ) -> ProductsView:
        """The view of the next tokens; see :meth:`.cache.ImaginedCache.view`."""
        self.make_room(chunk, keep=inside - chunk)
        history = self._history
        left = first >= history.tokens
        return ProductsView(
            projections=projections,
            own=self.layers,
            at=self.place,
            shared=[None if left else layer[..., first:, :] for layer in history.layers],
            grouping=grouping,
            visible=None if history.visible is None else history.visible[:, first:],
            mask=self.mask(chunk, inside),
        )

    def take(self, rows: Tensor) -> PackedImagined:
        """Copies of the given rows."""
        taken = copy.copy(self)
        heads, count, head_dim = self._shape
        taken._shape = (heads, len(rows), head_dim)
        numbers = len(self._blocks[0]) // count * len(rows)
        taken._blocks = [block.new_empty(numbers) for block in self._blocks]
        taken.layers = [taken._packed(block, self.length) for block in taken._blocks[:-1]]
        for into, layer in zip(taken.layers, self.layers, strict=True):
            torch.index_select(layer, 2, rows, out=into)
        return taken

    def mask(self, chunk: int, inside: int) -> Tensor | None:
        """The mask of the next ``chunk`` tokens, in the form that :func:`.products.attend` takes.

        It hides tokens left of the band, places not written yet, and, unless steps are whole, later tokens of
        the chunk.

        Args:
            chunk: Number of new tokens, for which there is room.
            inside: Number of tokens inside the band, the chunk included.
        """
        if chunk == 1 and inside == self.length:
            return None
        last, like = self.written + chunk - 1, self.layers[0]
        place = torch.arange(self.length, device=like.device)
        number = last - (last - self._first - place) % self.length  # of the token last written to each place
        query = torch.arange(self.written, last + 1, device=like.device)[:, None]
        if self._capacity.whole:
            query = torch.full_like(query, last)
        unseen = (number > query) | (number <= last - inside)  # [c, S]
        return like.new_zeros(unseen.shape).masked_fill_(unseen, float("-inf"))

    def _pack(self, old: Iterable[Tensor], *, keep: int, length: int) -> None:
        """Move the last ``keep`` tokens of each layer to a block with room for ``length``."""
        # whole steps stay together where places wrap around the band
        self._first = -self._capacity.offset if length == self._capacity.band else self.written - keep
        start = (self.written - keep - self._first) % length
        around = max(0, start + keep - length)  # kept tokens that wrap around, after the others
        heads, rows, head_dim = self._shape
        empty = self._blocks[-1].new_zeros((2, heads, rows, length - keep, head_dim))
        before = length - keep if around else start
        layers = []
        for index, layer in enumerate(old):
            new = self._packed(self._blocks[-1], length)
            first, wrapped = layer[..., : keep - around, :], layer[..., keep - around :, :]
            parts = [wrapped, empty[..., :before, :], first, empty[..., before:, :]]
            torch.cat([part for part in parts if part.shape[3]], dim=3, out=new)
            self._blocks[-1], self._blocks[index] = self._blocks[index], self._blocks[-1]
            layers.append(new)
        self.layers, self.length = layers, length

    def _packed(self, block: Tensor, length: int) -> Tensor:
        heads, rows, head_dim = self._shape
        return block[: 2 * heads * rows * length * head_dim].view(2, heads, rows, length, head_dim)


def ahead(keep: int, step: int) -> int:
    """The number of tokens, in whole steps, for which a cache that keeps ``keep`` tokens makes room.

    If packing takes as long as reading all that is kept four times, and each token reads about ``r / 2``
    places that are not written yet, packing once in ``r = sqrt(8 keep)`` tokens costs least.
    """
    return step * max(1, round(max(_LEAST_AHEAD, math.sqrt(8 * keep)) / step))
