"""What tells the tasks of one model apart: a learned vector each, and which actuators it has."""

from __future__ import annotations

import torch
from torch import Tensor, nn

INITIAL = 0.02
"""Initial numbers lie between minus this and this."""


class TaskEmbeddings(nn.Module):
    """A vector of norm 1 at most for every task, beside which its networks read what they read.

    Args:
        masks: ``[K, m]`` float32, 0 where a task lacks an action scalar that others have; None where actions
            are choices, which all tasks have.
        tasks: Number of tasks, ``K``.
        size: Scalars per vector, ``e``.
        generator: Of the vectors.
    """

    def __init__(self, masks: Tensor | None, *, tasks: int, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.size = size
        drawn = torch.empty(tasks, size, device="cpu", dtype=torch.float32)
        self.vectors = nn.Parameter(drawn.uniform_(-INITIAL, INITIAL, generator=generator))  # [K, e]
        self.masks: Tensor | None
        self.register_buffer("masks", masks, persistent=False)

    def beside(self, x: Tensor, task: Tensor | None) -> Tensor:
        """``[R, ..., d + e]`` of ``x`` ``[R, ..., d]`` and its tasks ``[R]``."""
        assert task is not None
        vectors = _along(self.vectors[task], x).to(x.dtype)
        return torch.cat([x, vectors], dim=-1)

    def mask_of(self, task: Tensor | None, beside: Tensor) -> Tensor | None:
        """Which action scalars exist, ``[R, ..., m]`` for ``beside`` ``[R, ..., d]``; None where all do."""
        assert task is not None
        return None if self.masks is None else _along(self.masks[task], beside)

    @torch.no_grad()
    def clip(self) -> None:
        """Shorten what is longer than 1."""
        self.vectors.copy_(torch.renorm(self.vectors, p=2, dim=0, maxnorm=1.0))


def _along(rows: Tensor, x: Tensor) -> Tensor:
    """``[R, k]`` repeated along the axes between the first and the last of ``x`` ``[R, ..., d]``."""
    between = (1,) * (x.ndim - 2)
    return rows.view(len(rows), *between, -1).expand(*x.shape[:-1], -1)
