"""Keys and values of what each candidate imagines, packed so that they are read as fast as memory allows."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import torch
from torch import Tensor

from tdm_agents.world_models.transformer.cache import Prefix
from tdm_agents.world_models.transformer.layout import StepLayout

_LEAST_AHEAD = 16
"""Tokens; PyTorch multiplies fewer by a slower way."""


class Suffix:
    """Each row's own keys and values, packed: little more than what is read.

    Where rows are apart in memory, if only by four tokens, a CPU takes about twice as long to read them or
    longer (``benchmarks/packed_suffix.py``). So a layer holds the tokens that are needed and room for a
    few steps, and is read whole; when it is full, it is packed anew, with more room. The memory is fixed at
    the start: a block a layer, and one that the next layer to be packed moves to.

    Args:
        prefix: That the rows continue.
        rows: ``N``.
        most: Tokens that they hold at once; see :func:`most_tokens`.

    Attributes:
        capacity: Tokens that there is room for now.
        used: Tokens written.
        layers: Keys and values a layer, ``[2, heads, N, capacity, head_dim]``; zero where nothing is written.
    """

    def __init__(self, prefix: Prefix, rows: int, most: int) -> None:
        _, heads, _, _, head_dim = prefix.layers[0].shape
        self._most, self.capacity, self.used = most, 0, 0
        self._shape = (heads, rows, head_dim)
        numbers = 2 * heads * rows * most * head_dim
        self._blocks = [prefix.layers[0].new_empty(numbers) for _ in range(len(prefix.layers) + 1)]
        self.layers = [self._packed(block, 0) for block in self._blocks[:-1]]

    @classmethod
    def holding(
        cls, prefix: Prefix, rows: int, most: int, *, tokens: int, layers: Iterable[Tensor]
    ) -> Suffix:
        """A suffix of ``tokens`` that are known: a layer ``[2, heads, N, tokens, head_dim]`` at a time."""
        suffix = cls(prefix, rows, most)
        suffix.used = tokens
        suffix._pack(layers, tokens)
        return suffix

    @property
    def nbytes(self) -> int:
        """Of all blocks."""
        return sum(block.nbytes for block in self._blocks)

    def make_room(self, tokens: int, *, keep: int, step: int) -> None:
        """Make room for ``tokens`` more, of those written only the last ``keep`` being needed.

        Args:
            tokens: At most ``step``.
            keep: At most :attr:`used`.
            step: Tokens of a decision step.
        """
        if self.used + tokens <= self.capacity:
            return
        kept = slice(self.used - keep, self.used)
        self.used = keep
        self._pack((layer[..., kept, :] for layer in self.layers), min(keep + ahead(keep, step), self._most))

    def take(self, rows: Tensor) -> Suffix:
        """Copies of the given rows."""
        taken = copy.copy(self)
        heads, count, head_dim = self._shape
        taken._shape = (heads, len(rows), head_dim)
        numbers = len(self._blocks[0]) // count * len(rows)
        taken._blocks = [block.new_empty(numbers) for block in self._blocks]
        written = (layer[..., : self.used, :] for layer in self.layers)
        taken._pack((layer.index_select(2, rows) for layer in written), self.capacity)
        return taken

    def hidden(self, chunk: int, inside: int) -> Tensor | None:
        """What the next ``chunk`` tokens do not see, as :func:`.cache.attend` wants it.

        Left of the band, later tokens of the chunk, and what is not written yet.

        Args:
            chunk: Tokens that there is room for.
            inside: Tokens inside the band, the chunk included.
        """
        end, like = self.used + chunk, self.layers[0]
        if chunk == 1 and inside == self.capacity:
            return None
        key = torch.arange(self.capacity, device=like.device)
        query = torch.arange(self.used, end, device=like.device)[:, None]
        unseen = (key > query) | (key < end - inside)  # [c, S]
        return like.new_zeros(unseen.shape).masked_fill_(unseen, float("-inf"))

    def _pack(self, old: Iterable[Tensor], capacity: int) -> None:
        """Move layers ``[2, heads, N, used, head_dim]``, one at a time, to where they have room."""
        layers = []
        empty = self._blocks[-1].new_zeros((2, *self._shape[:2], capacity - self.used, self._shape[2]))
        for index, layer in enumerate(old):
            new = self._packed(self._blocks[-1], capacity)
            torch.cat([layer, empty], dim=3, out=new)
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


def most_tokens(horizon: int, context_steps: int, layout: StepLayout) -> int:
    """Tokens of a row's suffix that are held at once.

    Args:
        horizon: Steps that are imagined; a proposal may follow them.
        context_steps: Attention band.
        layout: Of a decision step.
    """
    band = context_steps * layout.tokens
    return min(horizon * layout.tokens + layout.chunk, band + ahead(band, layout.tokens))
