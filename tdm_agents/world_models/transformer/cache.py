"""Attention over what all candidates share, the prefix, and what each has of its own, the suffix.

The history of each of ``B`` environments is encoded once: the prefix. The ``N`` imagined rows continue it,
each with a suffix of its own. A query attends over both in one softmax. The prefix is never copied a row:
queries of the rows that share one are brought together instead, which also turns many small products into one
large one. All rows advance in lock-step, so which keys are inside the attention band depends on counters
alone, never on data.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Prefix:
    """What ``B`` environments' histories left behind; shared, read-only.

    Attributes:
        layers: Keys and values a layer, ``[2, heads, B, P, head_dim]``. Heads come first, so that the rows
            that share a prefix are one matrix a head without a copy.
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
        """Of keys and values."""
        return sum(layer.untyped_storage().nbytes() for layer in self.layers)


@dataclass(frozen=True, slots=True)
class Grouping:
    """Which rows continue which prefix, arranged so that each prefix is read once.

    Attributes:
        prefix_of: ``[N]`` int64.
        batch: ``B``.
        size: Slots a prefix; ``B * size >= N``.
        slots: ``[B * size]`` int64, the row in each slot (unused slots repeat some row); None if the rows
            already stand in order with equal counts.
        slot_of: ``[N]`` int64, the slot of each row; None likewise.
    """

    prefix_of: Tensor
    batch: int
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
            return Grouping(prefix_of, batch, size, None, None)
        order = prefix_of.argsort(stable=True)
        first = counts.cumsum(0) - counts  # [B] where each prefix starts in that order
        rank = torch.arange(len(order), device=order.device) - first[prefix_of[order]]
        slot_of = torch.empty_like(order)
        slot_of[order] = prefix_of[order] * size + rank
        slots = order.new_zeros(batch * size)
        slots[slot_of] = torch.arange(len(order), device=order.device)
        return Grouping(prefix_of, batch, size, slots, slot_of)

    @property
    def in_order(self) -> bool:
        """Whether rows stand prefix by prefix in equal counts, so that nothing is moved."""
        return self.slots is None

    def gather(self, x: Tensor) -> Tensor:
        """Rows ``[heads, N, c, dim]`` to ``[heads * B, size * c, dim]``; a view if in order."""
        if self.slots is not None:
            x = x[:, self.slots]
        return x.view(-1, self.size * x.shape[2], x.shape[3])

    def scatter(self, x: Tensor, chunk: int) -> Tensor:
        """``[heads * B, size * c, dim]`` back to rows ``[heads, N, c, dim]``; a view if in order."""
        x = x.view(-1, self.batch * self.size, chunk, x.shape[2])
        return x if self.slot_of is None else x[:, self.slot_of]


def attend(
    query: Tensor,
    own: Tensor,
    shared: Tensor | None,
    grouping: Grouping,
    visible: Tensor | None,
    hidden: Tensor | None,
) -> Tensor:
    """Attention of each row over its prefix and its suffix, as one softmax.

    Plain products. Scores of prefix and suffix are written side by side into one tensor, so that nothing has
    to be merged.

    Args:
        query: ``[heads, N, c, head_dim]``, contiguous; its products with keys are the scores.
        own: The suffix, ``[2, heads, N, S, head_dim]``.
        shared: The prefix inside the band, ``[2, heads, B, P, head_dim]``; None once it has left.
        grouping: Which row continues which prefix.
        visible: ``[B, P]`` bool over ``shared``, or None if all of it is.
        hidden: ``[c, S]`` float, -inf where ``own`` is not to be seen, otherwise 0; None if all of it is.

    Returns:
        ``[heads, N, c, head_dim]``.
    """
    keys, values = own.flatten(1, 2)  # [heads N, S, head_dim]
    own_scores = torch.bmm(query.flatten(0, 1), keys.transpose(1, 2))  # [heads N, c, S]
    if shared is None:
        if hidden is not None:
            own_scores += hidden
        return torch.bmm(own_scores.softmax(dim=-1), values).view(query.shape)
    prefix_keys, prefix_values = shared.flatten(1, 2)  # [heads B, P, head_dim]
    length = prefix_keys.shape[1]
    scores = query.new_empty((*query.shape[:3], length + keys.shape[1]))  # [heads, N, c, P + S]
    beside = scores[..., length:].flatten(0, 1)
    if hidden is None:
        beside.copy_(own_scores)
    else:
        torch.add(own_scores, hidden, out=beside)
    prefix_scores = grouping.gather(scores[..., :length])  # [heads B, size c, P]; a view if in order
    torch.bmm(grouping.gather(query), prefix_keys.transpose(1, 2), out=prefix_scores)
    if visible is not None:
        by_prefix = prefix_scores.view(len(query), -1, *prefix_scores.shape[1:])  # [heads, B, size c, P]
        by_prefix.masked_fill_(~visible[:, None], float("-inf"))
    if not grouping.in_order:
        scores[..., :length] = grouping.scatter(prefix_scores, query.shape[2])
    torch.softmax(scores, dim=-1, out=scores)
    attended = torch.bmm(grouping.gather(scores[..., :length]), prefix_values)
    attended = grouping.scatter(attended, query.shape[2])
    return torch.baddbmm(attended.flatten(0, 1), beside, values).view(query.shape)


def attend_by_values(
    query: Tensor,
    own: Tensor,
    shared: Tensor,
    grouping: Grouping,
    visible: Tensor,
    hidden: Tensor,
) -> Tensor:
    """As :func:`attend`, without writing into views, which ``torch.compile`` does not take; it fuses this.

    Rows have to be in order; the softmax is computed in float32.
    """
    heads, rows, chunk, head_dim = query.shape
    keys, values = own.flatten(1, 2)  # [heads N, S, head_dim]
    prefix_keys, prefix_values = shared.flatten(1, 2)  # [heads B, P, head_dim]
    length, batch = prefix_keys.shape[1], grouping.batch
    prefix_scores = torch.bmm(query.reshape(heads * batch, -1, head_dim), prefix_keys.transpose(1, 2))
    prefix_scores = prefix_scores.view(heads, batch, -1, length).masked_fill(~visible[:, None], float("-inf"))
    own_scores = torch.bmm(query.flatten(0, 1), keys.transpose(1, 2)) + hidden  # [heads N, c, S]
    scores = torch.cat([prefix_scores.view(heads * rows, chunk, length), own_scores], dim=-1)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    from_prefix = torch.bmm(weights[..., :length].reshape(heads * batch, -1, length), prefix_values)
    from_own = torch.bmm(weights[..., length:], values)
    return from_prefix.view(query.shape) + from_own.view(query.shape)
