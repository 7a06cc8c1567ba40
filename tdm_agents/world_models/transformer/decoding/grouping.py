"""Grouping of rows by the history that they continue."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Grouping:
    """Rows grouped by the history that they continue, so that each history is read once.

    Attributes:
        history_of: ``[N]`` int64, the history that each row continues.
        batch: ``B``, the number of histories.
        size: Slots per history; ``B * size >= N``.
        slots: ``[B * size]`` int64, the row in each slot (unused slots repeat some row); None if the rows
            already stand in order with equal counts.
        slot_of: ``[N]`` int64, the slot of each row; None in the same case.
    """

    history_of: Tensor
    batch: int
    size: int
    slots: Tensor | None
    slot_of: Tensor | None

    @staticmethod
    def of(history_of: Tensor, batch: int) -> Grouping:
        """Group rows by history. This reads the data, so call it once per ``take``, not once per token."""
        counts = torch.bincount(history_of, minlength=batch)
        size = int(counts.max())
        in_order = torch.arange(batch, device=history_of.device).repeat_interleave(size)
        if torch.equal(in_order, history_of):
            return Grouping(history_of, batch, size, None, None)
        order = history_of.argsort(stable=True)
        first = counts.cumsum(0) - counts  # [B] start of each history in that order
        rank = torch.arange(len(order), device=order.device) - first[history_of[order]]
        slot_of = torch.empty_like(order)
        slot_of[order] = history_of[order] * size + rank
        slots = order.new_zeros(batch * size)
        slots[slot_of] = torch.arange(len(order), device=order.device)
        return Grouping(history_of, batch, size, slots, slot_of)

    @property
    def in_order(self) -> bool:
        """Whether rows are in order with equal counts per history, so that nothing is moved."""
        return self.slots is None

    def gather(self, x: Tensor) -> Tensor:
        """Turn rows ``[heads, N, c, dim]`` into ``[heads * B, size * c, dim]``; a view if in order."""
        if self.slots is not None:
            x = x[:, self.slots]
        return x.view(-1, self.size * x.shape[2], x.shape[3])

    def scatter(self, x: Tensor, chunk: int) -> Tensor:
        """Turn ``[heads * B, size * c, dim]`` back into rows ``[heads, N, c, dim]``; a view if in order."""
        x = x.view(-1, self.batch * self.size, chunk, x.shape[2])
        return x if self.slot_of is None else x[:, self.slot_of]
