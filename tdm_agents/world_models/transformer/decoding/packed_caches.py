"""Keys and values as PyTorch's products read them, packed so that they are read as fast as memory allows."""

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
from tdm_agents.world_models.transformer.network import Block

_LEAST_AHEAD = 16
"""Tokens; PyTorch multiplies fewer by a slower way."""


@dataclass(frozen=True, slots=True)
class PackedHistory:
    """Keys and values of ``B`` histories; see :class:`.cache.HistoryCache`.

    Attributes:
        layers: Keys and values per layer, ``[2, heads, B, P, head_dim]``. Heads come first, so that the rows
            that share a history are one matrix per head without a copy.
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
    """Keys and values of what each row imagined, packed: little more than what is read.

    Where rows are apart in memory, if only by four tokens, a CPU takes about twice as long to read them or
    longer (``benchmarks/packed_suffix.py``). So a layer holds the tokens that are needed and room for a
    few steps, and is read whole; when it is full, it is packed anew, with more room. Once that is the whole
    attention band, nothing moves any more: a step's tokens take the places of those that have just left it.
    The memory is fixed at the start: a block per layer, and one that the next layer to be packed moves to.

    Args:
        history: What the rows continue.
        rows: ``N``.
        capacity: How many tokens a layer may hold.

    Attributes:
        length: Tokens that a layer has room for now.
        written: Tokens so far, those that have left included.
        layers: Keys and values per layer, ``[2, heads, N, length, head_dim]``; zero where nothing is written.
    """

    def __init__(self, history: PackedHistory, rows: int, capacity: Capacity) -> None:
        _, heads, _, _, head_dim = history.layers[0].shape
        self._history, self._capacity, self.length, self.written = history, capacity, 0, 0
        self._first = 0  # number of the token at place 0, or once around less
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
        """A cache whose last ``keep`` tokens are given, ``[2, heads, N, keep, head_dim]`` per layer."""
        cache = cls(history, rows, capacity)
        cache.written = written
        cache._pack(layers, keep=keep, length=capacity.most)
        return cache

    @staticmethod
    def projection(block: Block, rotation: Tensor) -> Tensor:
        """A block's weights for tokens of one decision step, as :meth:`view` wants them."""
        return block.step_projection(rotation)

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values, those not written yet included."""
        return sum(block.nbytes for block in self._blocks)

    @property
    def place(self) -> int:
        """Where the next tokens of a step go."""
        return (self.written - self._first) % self.length

    def make_room(self, tokens: int, *, keep: int) -> None:
        """Make room for ``tokens`` more, of those written only the last ``keep`` being needed.

        Args:
            tokens: Of one decision step.
            keep: At most the band's tokens less ``tokens``.
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
        """What the next tokens attend to; see :meth:`.cache.ImaginedCache.view`."""
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
        """What the next ``chunk`` tokens do not see, as :func:`.products.attend` wants it.

        Left of the band, later tokens of the chunk, and what is not written yet.

        Args:
            chunk: Tokens that there is room for.
            inside: Tokens inside the band, the chunk included.
        """
        if chunk == 1 and inside == self.length:
            return None
        last, like = self.written + chunk - 1, self.layers[0]
        place = torch.arange(self.length, device=like.device)
        number = last - (last - self._first - place) % self.length  # of the token last written there
        query = torch.arange(self.written, last + 1, device=like.device)[:, None]
        unseen = (number > query) | (number <= last - inside)  # [c, S]
        return like.new_zeros(unseen.shape).masked_fill_(unseen, float("-inf"))

    def _pack(self, old: Iterable[Tensor], *, keep: int, length: int) -> None:
        """Move the last ``keep`` tokens of layers, one at a time, to where there is room for ``length``."""
        # around the band, whole steps stay together
        self._first = -self._capacity.offset if length == self._capacity.band else self.written - keep
        start = (self.written - keep - self._first) % length
        around = max(0, start + keep - length)  # of those kept, behind the others
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
    """For how many tokens, in whole steps, a cache that keeps ``keep`` of them makes room.

    If to pack takes as long as to read all that is kept four times, and each token reads about ``r / 2`` that
    are not written yet, then to pack once in ``r = sqrt(8 keep)`` tokens costs least.
    """
    return step * max(1, round(max(_LEAST_AHEAD, math.sqrt(8 * keep)) / step))
