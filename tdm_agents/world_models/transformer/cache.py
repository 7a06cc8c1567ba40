"""Keys and values of a decision: a prefix that all candidates share, and each candidate's own suffix.

The history of each of ``B`` environments is encoded once: the prefix ``[B, ...]``. The ``N`` imagined rows
continue it: a suffix ``[N, ...]`` in buffers whose size is fixed when they are made. A query attends over
both in one softmax, computed in two parts. The prefix is never copied a row: queries of the rows that share
one are brought together instead, which also turns many small products into one large one. All rows advance in
lock-step, so which keys are inside the attention band depends on counters alone, never on data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

KeysValues = tuple[Tensor, Tensor]
"""Keys and values of one layer, ``[rows, heads, tokens, head_dim]`` each."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """What ``B`` environments' histories left behind; shared, read-only.

    Attributes:
        layers: Keys and values a layer, ``[B, heads, P, head_dim]``.
        visible: ``[B, P]`` bool, False on the padding of shorter histories; None if there is none.
    """

    layers: tuple[KeysValues, ...]
    visible: Tensor | None

    @property
    def batch(self) -> int:
        """``B``."""
        return self.layers[0][0].shape[0]

    @property
    def tokens(self) -> int:
        """``P``."""
        return self.layers[0][0].shape[2]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Which rows continue which prefix, arranged so that each prefix is read once.

    Attributes:
        prefix_of: ``[N]`` int64.
        size: Slots a prefix; ``B * size >= N``.
        slots: ``[B * size]`` int64, the row in each slot (unused slots repeat some row); None if the rows
            already stand in order with equal counts.
        slot_of: ``[N]`` int64, the slot of each row; None likewise.
    """

    prefix_of: Tensor
    size: int
    slots: Tensor | None
    slot_of: Tensor | None

    @staticmethod
    def of(prefix_of: Tensor, batch: int) -> Grouping:
        """Arrange rows by prefix; looks at the data, so call it once a ``take``, not once a token."""
        counts = torch.bincount(prefix_of, minlength=batch)
        size = int(counts.max())
        in_order = torch.arange(batch, device=prefix_of.device).repeat_interleave(size)
        if torch.equal(in_order, prefix_of):
            return Grouping(prefix_of, size, None, None)
        order = prefix_of.argsort(stable=True)
        first = counts.cumsum(0) - counts  # [B] where each prefix starts in that order
        rank = torch.arange(len(order), device=order.device) - first[prefix_of[order]]
        slot_of = torch.empty_like(order)
        slot_of[order] = prefix_of[order] * size + rank
        slots = order.new_zeros(batch * size)
        slots[slot_of] = torch.arange(len(order), device=order.device)
        return Grouping(prefix_of, size, slots, slot_of)

    def gather(self, x: Tensor, batch: int) -> Tensor:
        """Rows ``[N, heads, c, dim]`` to ``[B, heads, size * c, dim]``."""
        if self.slots is not None:
            x = x[self.slots]
        heads, chunk, dim = x.shape[1:]
        x = x.view(batch, self.size, heads, chunk, dim).transpose(1, 2)
        return x.reshape(batch, heads, self.size * chunk, dim)

    def scatter(self, x: Tensor, chunk: int) -> Tensor:
        """``[B, heads, size * c, dim]`` back to rows ``[N, heads, c, dim]``."""
        batch, heads, _, dim = x.shape
        x = x.view(batch, heads, self.size, chunk, dim).transpose(1, 2)
        x = x.reshape(batch * self.size, heads, chunk, dim)
        return x if self.slot_of is None else x[self.slot_of]


@dataclass(frozen=True, slots=True)
class Suffix:
    """Each row's own keys and values, in buffers of fixed size.

    The buffer holds the steps inside the attention band and some more; when it is full, the steps still
    inside the band move to its front. So memory and the bytes read do not grow with the horizon.

    Attributes:
        buffer: ``[layers, 2, N, heads, capacity, head_dim]``.
        used: Tokens written.
    """

    buffer: Tensor
    used: int = 0

    @staticmethod
    def allocate(prefix: Prefix, rows: int, capacity: int) -> Suffix:
        """Empty buffers for ``rows`` rows of ``capacity`` tokens."""
        key = prefix.layers[0][0]
        shape = (len(prefix.layers), 2, rows, key.shape[1], capacity, key.shape[3])
        return Suffix(key.new_empty(shape))

    def room(self, tokens: int, keep: int) -> Suffix:
        """Make room for ``tokens`` more, of those written only the last ``keep`` being needed."""
        capacity = self.buffer.shape[4]
        if self.used + tokens <= capacity:
            return self
        keep = min(keep, self.used)
        if keep + tokens > capacity:
            raise ValueError(f"a suffix of {capacity} tokens cannot hold {keep} + {tokens}")
        kept = self.buffer[..., self.used - keep : self.used, :]
        self.buffer[..., :keep, :] = kept.clone() if 2 * keep > self.used else kept
        return replace(self, used=keep)

    def take(self, rows: Tensor) -> Suffix:
        """Copies of the given rows."""
        buffer = self.buffer.new_empty((*self.buffer.shape[:2], len(rows), *self.buffer.shape[3:]))
        buffer[..., : self.used, :] = self.buffer[..., : self.used, :].index_select(2, rows)
        return Suffix(buffer, self.used)

    def write(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Put the keys and values ``[N, heads, c, head_dim]`` of new tokens behind those written."""
        end = self.used + key.shape[2]
        self.buffer[layer, 0, :, :, self.used : end] = key
        self.buffer[layer, 1, :, :, self.used : end] = value


def attend(
    query: Tensor,
    own: KeysValues,
    shared: KeysValues | None,
    grouping: Grouping,
    visible: Tensor | None,
    causal: Tensor | None,
) -> Tensor:
    """Attention of each row over its prefix and its suffix, as one softmax.

    Args:
        query: ``[N, heads, c, head_dim]``.
        own: The suffix inside the band, ``[N, heads, S, head_dim]`` each, new tokens last.
        shared: The prefix inside the band, ``[B, heads, P, head_dim]`` each; None once it has left.
        grouping: Which row continues which prefix.
        visible: ``[B, P]`` bool over ``shared``, or None if all of it is.
        causal: ``[c, S]`` float, 0 or -inf: order inside the new chunk; None for a single token.

    Returns:
        ``[N, heads, c, head_dim]``.
    """
    query = query * query.shape[-1] ** -0.5
    # plain products: for one or three queries a row they beat the fused kernels on CPU by half
    scores = (query @ own[0].transpose(-1, -2)).float()  # [N, heads, c, S]
    if causal is not None:
        scores = scores + causal
    if shared is None:
        return scores.softmax(dim=-1).to(query.dtype) @ own[1]
    chunk, batch = query.shape[2], shared[0].shape[0]
    prefix_scores = (grouping.gather(query, batch) @ shared[0].transpose(-1, -2)).float()
    if visible is not None:  # [B, heads, size c, P]
        prefix_scores = prefix_scores.masked_fill(~visible[:, None, None], float("-inf"))
    # two partial softmaxes, merged by their maxima and sums: the scores are never copied together
    of_prefix = [grouping.scatter(x, chunk) for x in _partial_softmax(prefix_scores, shared[1])]
    of_own = _partial_softmax(scores, own[1])
    top = torch.maximum(of_prefix[0], of_own[0])  # [N, heads, c, 1]
    total = sums = torch.zeros((), device=query.device)
    for maximum, summed, weighted in (of_prefix, of_own):
        share = (maximum - top).exp()
        sums = sums + share * summed
        total = total + share * weighted
    return (total / sums).to(query.dtype)


def _partial_softmax(scores: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Maximum, sum of exponentials below it, and the values weighted by them; consumes ``scores``."""
    maximum = scores.amax(dim=-1, keepdim=True)
    weights = scores.sub_(maximum).exp_()
    return maximum, weights.sum(dim=-1, keepdim=True), (weights.to(value.dtype) @ value).float()
