"""Batches that an update reads: windows of trajectories, one entry per decision.

A batch may be divided into micro-batches, which several processes read at the same time, or one process one
after another. Each knows which windows of the whole batch it holds, so that it takes its part of the noise,
and what the whole batch counts, so that the losses of all add up to that of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Rows:
    """The windows of a batch that a micro-batch holds: every ``every``-th, beginning with ``first``.

    Attributes:
        first: The first of them, from 0.
        every: Distance from one to the next.
        of: Number of windows of the batch.
    """

    first: int
    every: int
    of: int

    def take(self, whole: Any) -> Any:
        """The rows of these windows of an array or tensor ``[of, ...]``."""
        return whole[self.first :: self.every]

    def __len__(self) -> int:
        return len(range(self.first, self.of, self.every))


@dataclass(frozen=True, slots=True)
class Batch:
    """``B`` windows of ``T`` decision steps of environments with the same ``(n, m)``.

    Attributes:
        observation: ``[B, T, n]`` float32; 0 where not ``valid``.
        reward: ``[B, T]`` float32, the reward that arrived *with* each observation; NaN where unknown (the
            first step of an episode) or not ``valid``.
        action: ``[B, T, m]``, taken after each observation, float32 in [-1, 1] or int64 choices; 0 where not
            ``acted``.
        alive: ``[B, T]`` bool; False at the observation in which the episode terminated.
        valid: ``[B, T]`` bool; False on the padding to the right of a short episode.
        acted: ``[B, T]`` bool; False where no action followed (the last step of an episode, padding).
        to_go: ``[B, T]`` float32, the discounted sum of the rewards after each observation, to the end of the
            recorded episode; 0 where not ``valid``. None unless the model reads it
            (:class:`tdm_agents.protocols.ReadsReturns`).
        example: ``[B, T]`` bool; False where the action is not one that a policy should imitate. None: all
            are examples.
        rows: Which windows of a batch these are, where they are a micro-batch.
        counts: What the whole batch counts, where these are a micro-batch; see
            :meth:`tdm_agents.protocols.Divides.counts`.
    """

    observation: Tensor
    reward: Tensor
    action: Tensor
    alive: Tensor
    valid: Tensor
    acted: Tensor
    to_go: Tensor | None = None
    example: Tensor | None = None
    rows: Rows | None = None
    counts: Tensor | None = None

    @classmethod
    def joined(cls, several: Sequence[Batch]) -> Batch:
        """The windows of several batches, in order; what only some have is left out."""
        names = ["observation", "reward", "action", "alive", "valid", "acted"]
        names += [n for n in ("to_go", "example") if all(getattr(of, n) is not None for of in several)]
        every: dict[str, Any] = {n: torch.cat([getattr(batch, n) for batch in several]) for n in names}
        return cls(**every)

    @property
    def share(self) -> float:
        """The share of the whole batch's windows, by which a term that no window belongs to is weighted."""
        return 1.0 if self.rows is None else len(self.rows) / self.rows.of

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(
            self.observation.to(device),
            self.reward.to(device),
            self.action.to(device),
            self.alive.to(device),
            self.valid.to(device),
            self.acted.to(device),
            None if self.to_go is None else self.to_go.to(device),
            None if self.example is None else self.example.to(device),
            self.rows,
            None if self.counts is None else self.counts.to(device),
        )


@dataclass(frozen=True, slots=True)
class MixedBatch:
    """Windows of environments of different ``(n, m)``, grouped by environment.

    Attributes:
        parts: The batch of each environment, by name; environments without a window in the whole batch are
            left out.
        counts: What the whole batch counts, where these are a micro-batch.
    """

    parts: Mapping[str, Batch]
    counts: Tensor | None = None

    @property
    def windows(self) -> int:
        """``B``, the number of windows of all environments together."""
        return sum(len(part.reward) for part in self.parts.values())

    def to(self, device: torch.device | str) -> MixedBatch:
        """The same batch on another device."""
        counts = None if self.counts is None else self.counts.to(device)
        return MixedBatch({name: part.to(device) for name, part in self.parts.items()}, counts)


class Processes(Protocol):
    """Processes that train one model together; or one process, whose sums are its own numbers."""

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        ...

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their sums over all processes; one that a process lacks counts as 0 there."""
        ...


@dataclass(frozen=True, slots=True)
class MicroBatches:
    """What one process reads of a batch, some windows at a time.

    Attributes:
        parts: Micro-batches, each with ``rows`` and ``counts``.
        processes: All that read the batch.
    """

    parts: Sequence[Batch | MixedBatch]
    processes: Processes
