"""Dropout of the residual stream in training (Srivastava et al. 2014), as a function of seeds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tdm_agents.protocols import Batch
from tdm_agents.world_models.transformer.cpu.training_loops import run_loop, runs_loops


@dataclass(frozen=True, slots=True)
class Dropout:
    """What one forward drops: each number of what is added to the stream, with a probability.

    Every window has a seed of its own, so that its draws are the same in whatever micro-batch it is read.

    Attributes:
        rate: The probability, in (0, 1).
        seeds: A seed per window, in the order of the flat sequence.
        tokens: The number of tokens of each window.
    """

    rate: float
    seeds: tuple[int, ...]
    tokens: tuple[int, ...]

    def masks(self, like: Tensor) -> Iterator[Tensor]:
        """Factors in the shape ``[S, d]`` of ``like``, without end: 0, or ``1 / (1 - rate)`` where kept."""
        if like.dtype == torch.float32 and runs_loops(like):
            return self._hashed(like)
        return self._drawn(like)

    def _hashed(self, like: Tensor) -> Iterator[Tensor]:
        """By a loop; a generator per window would take a tenth of an update of a small network."""
        seeds = torch.tensor(self.seeds, dtype=torch.int64, device="cpu")
        ends = torch.tensor(self.tokens, dtype=torch.int64, device="cpu").cumsum(dim=0)
        factor = torch.tensor([1.0 / (1.0 - self.rate)], dtype=torch.float32, device="cpu")
        for nth in itertools.count():
            drawn, sizes = torch.empty_like(like), (like.shape[1], nth, int(self.rate * 2**32))
            run_loop("factors", len(like), seeds, ends, factor, drawn, sizes=sizes)
            yield drawn

    def _drawn(self, like: Tensor) -> Iterator[Tensor]:
        """By torch's generators."""
        device, width = like.device, like.shape[1]
        of_windows = [
            (count, torch.Generator(device).manual_seed(seed))
            for count, seed in zip(self.tokens, self.seeds, strict=True)
        ]
        while True:
            draws = torch.cat(
                [
                    torch.rand((count, width), generator=own, device=device, dtype=torch.float32)
                    for count, own in of_windows
                ]
            )
            yield (draws >= self.rate).to(like.dtype) / (1.0 - self.rate)


def window_seeds(batch: Batch, generator: torch.Generator) -> Tensor:
    """A seed for each window of a batch, ``[B]`` int64; drawn for the whole batch where it is part of one."""
    rows = batch.rows
    count = len(batch.reward) if rows is None else rows.of
    seeds = torch.randint(2**62, (count,), generator=generator, device=generator.device, dtype=torch.int64)
    return seeds if rows is None else rows.take(seeds)
