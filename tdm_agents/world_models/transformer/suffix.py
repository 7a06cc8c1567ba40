"""Keys and values of what each candidate imagines, packed so that they are read as fast as memory allows."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from tdm_agents.world_models.transformer.cache import Grouping, Prefix
from tdm_agents.world_models.transformer.layout import StepLayout
from tdm_agents.world_models.transformer.network import Block
from tdm_agents.world_models.transformer.seen import Seen

_LEAST_AHEAD = 16
"""Tokens; PyTorch multiplies fewer by a slower way."""


@dataclass(frozen=True, slots=True)
class Room:
    """How many tokens suffixes hold, and where.

    Attributes:
        step: Tokens of a decision step.
        band: Tokens of the attention band, a multiple of ``step``.
        most: Tokens that are held at once; ``band`` where the rows' own tokens leave it.
        offset: In its step, of the first token that a suffix holds.
    """

    step: int
    band: int
    most: int
    offset: int

    @staticmethod
    def of(horizon: int, context_steps: int, layout: StepLayout) -> Room:
        """Room for ``horizon`` imagined steps, which a proposal may follow, in a band of steps."""
        band = context_steps * layout.tokens
        most = min(horizon * layout.tokens + layout.chunk, band)
        return Room(layout.tokens, band, most, layout.observation_dim)


class Suffix:
    """Each row's own keys and values, packed: little more than what is read.

    Where rows are apart in memory, if only by four tokens, a CPU takes about twice as long to read them or
    longer. So a layer holds the tokens that are needed and room for a
    few steps, and is read whole; when it is full, it is packed anew, with more room. Once that is the whole
    attention band, nothing moves any more: a step's tokens take the places of those that have just left it.
    The memory is fixed at the start: a block a layer, and one that the next layer to be packed moves to.

    Args:
        prefix: That the rows continue.
        rows: ``N``.
        room: Of what a layer holds.

    Attributes:
        capacity: Tokens that there is room for now.
        written: Tokens so far, those that have left included.
        layers: Keys and values a layer, ``[2, heads, N, capacity, head_dim]``; zero where nothing is written.
    """

    def __init__(self, prefix: Prefix, rows: int, room: Room) -> None:
        _, heads, _, _, head_dim = prefix.layers[0].shape
        self._prefix, self._room, self.capacity, self.written = prefix, room, 0, 0
        self._first = 0  # number of the token at place 0, or once around less
        self._shape = (heads, rows, head_dim)
        numbers = 2 * heads * rows * room.most * head_dim
        self._blocks = [prefix.layers[0].new_empty(numbers) for _ in range(len(prefix.layers) + 1)]
        self.layers = [self._packed(block, 0) for block in self._blocks[:-1]]

    @classmethod
    def holding(
        cls, prefix: Prefix, rows: int, room: Room, *, written: int, keep: int, layers: Iterable[Tensor]
    ) -> Suffix:
        """A suffix whose last ``keep`` tokens are given, ``[2, heads, N, keep, head_dim]`` a layer."""
        suffix = cls(prefix, rows, room)
        suffix.written = written
        suffix._pack(layers, keep=keep, capacity=room.most)
        return suffix

    @staticmethod
    def projection(block: Block, rotation: Tensor) -> Tensor:
        """Of tokens of a step, as :meth:`look` wants it."""
        return block.step_projection(rotation)

    @property
    def nbytes(self) -> int:
        """Of all blocks."""
        return sum(block.nbytes for block in self._blocks)

    @property
    def place(self) -> int:
        """Where the next tokens of a step go."""
        return (self.written - self._first) % self.capacity

    def make_room(self, tokens: int, *, keep: int) -> None:
        """Make room for ``tokens`` more, of those written only the last ``keep`` being needed.

        Args:
            tokens: Of one decision step.
            keep: At most ``room.band - tokens``.
        """
        room = self._room
        if self.capacity == room.band or self.written - self._first + tokens <= self.capacity:
            return
        capacity = min(keep + ahead(keep, room.step), room.most)
        start = self.written - keep - self._first
        self._pack((layer.narrow(3, start, keep) for layer in self.layers), keep=keep, capacity=capacity)

    def look(
        self,
        grouping: Grouping,
        projections: tuple[Tensor, ...],
        *,
        first: int,
        chunk: int,
        inside: int,
    ) -> Seen:
        """What the next tokens see; makes room for them.

        Args:
            grouping: Which row continues which prefix.
            projections: Of each block, :meth:`projection`.
            first: The first token of the prefix inside the band; at least its length if all have left.
            chunk: How many tokens.
            inside: Tokens of the suffix inside the band, the chunk included.
        """
        self.make_room(chunk, keep=inside - chunk)
        prefix = self._prefix
        left = first >= prefix.tokens
        return Seen(
            projections=projections,
            own=self.layers,
            at=self.place,
            shared=[None if left else layer[..., first:, :] for layer in prefix.layers],
            grouping=grouping,
            visible=None if prefix.visible is None else prefix.visible[:, first:],
            hidden=self.hidden(chunk, inside),
        )

    def take(self, rows: Tensor) -> Suffix:
        """Copies of the given rows."""
        taken = copy.copy(self)
        heads, count, head_dim = self._shape
        taken._shape = (heads, len(rows), head_dim)
        numbers = len(self._blocks[0]) // count * len(rows)
        taken._blocks = [block.new_empty(numbers) for block in self._blocks]
        taken.layers = [taken._packed(block, self.capacity) for block in taken._blocks[:-1]]
        for into, layer in zip(taken.layers, self.layers, strict=True):
            torch.index_select(layer, 2, rows, out=into)
        return taken

    def hidden(self, chunk: int, inside: int) -> Tensor | None:
        """What the next ``chunk`` tokens do not see, as :func:`.cache.attend` wants it.

        Left of the band, later tokens of the chunk, and what is not written yet.

        Args:
            chunk: Tokens that there is room for.
            inside: Tokens inside the band, the chunk included.
        """
        if chunk == 1 and inside == self.capacity:
            return None
        last, like = self.written + chunk - 1, self.layers[0]
        place = torch.arange(self.capacity, device=like.device)
        number = last - (last - self._first - place) % self.capacity  # of the token last written there
        query = torch.arange(self.written, last + 1, device=like.device)[:, None]
        unseen = (number > query) | (number <= last - inside)  # [c, S]
        return like.new_zeros(unseen.shape).masked_fill_(unseen, float("-inf"))

    def _pack(self, old: Iterable[Tensor], *, keep: int, capacity: int) -> None:
        """Move the last ``keep`` tokens of layers, one at a time, to where they have room."""
        room = self._room
        # around the band, whole steps stay together
        self._first = -room.offset if capacity == room.band else self.written - keep
        start = (self.written - keep - self._first) % capacity
        around = max(0, start + keep - capacity)  # of those kept, behind the others
        heads, rows, head_dim = self._shape
        empty = self._blocks[-1].new_zeros((2, heads, rows, capacity - keep, head_dim))
        before = capacity - keep if around else start
        layers = []
        for index, layer in enumerate(old):
            new = self._packed(self._blocks[-1], capacity)
            first, wrapped = layer[..., : keep - around, :], layer[..., keep - around :, :]
            parts = [wrapped, empty[..., :before, :], first, empty[..., before:, :]]
            torch.cat([part for part in parts if part.shape[3]], dim=3, out=new)
            self._blocks[-1], self._blocks[index] = self._blocks[index], self._blocks[-1]
            layers.append(new)
        self.layers, self.capacity = layers, capacity

    def _packed(self, block: Tensor, capacity: int) -> Tensor:
        heads, rows, head_dim = self._shape
        return block[: 2 * heads * rows * capacity * head_dim].view(2, heads, rows, capacity, head_dim)


def ahead(keep: int, step: int) -> int:
    """For how many tokens, in whole steps, a suffix that keeps ``keep`` of them makes room.

    If to pack takes as long as to read all that is kept four times, and each token reads about ``r / 2`` that
    are not written yet, then to pack once in ``r = sqrt(8 keep)`` tokens costs least.
    """
    return step * max(1, round(max(_LEAST_AHEAD, math.sqrt(8 * keep)) / step))
