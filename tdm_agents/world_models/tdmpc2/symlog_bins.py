"""Rewards and values as distributions over bins that are even on a symmetric logarithmic scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def symlog(x: Tensor) -> Tensor:
    """``sign(x) log(1 + |x|)``."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """The inverse of :func:`symlog`."""
    return x.sign() * x.abs().expm1()


class SymlogBins(nn.Module):
    """Bins from ``-limit`` to ``limit`` in symlog units.

    Args:
        count: ``V``, at least 2.
        limit: More than 0.
    """

    def __init__(self, count: int, limit: float) -> None:
        super().__init__()
        self.count = count
        self.limit = limit
        self.centres: Tensor
        self.register_buffer(
            "centres",
            torch.linspace(-limit, limit, count, device="cpu", dtype=torch.float32),
            persistent=False,
        )

    def encode(self, x: Tensor) -> Tensor:
        """Two-hot: the shares ``[..., V]`` of the two bins around ``x[...]``, which the ends limit."""
        index, share = self._place(x)
        shares = torch.zeros(*x.shape, self.count, dtype=x.dtype, device=x.device)
        return shares.scatter(-1, index, 1 - share).scatter(-1, index + 1, share)

    def _place(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The lower of the two bins around ``x[...]``, and the share of the upper one, both ``[..., 1]``."""
        place = (symlog(x).clamp(-self.limit, self.limit) + self.limit) * (
            (self.count - 1) / (2 * self.limit)
        )
        low = place.floor().clamp(max=self.count - 2)
        return low.nan_to_num(0.0).long()[..., None], (place - low)[..., None]  # of NaN, the share is NaN

    def decode(self, logits: Tensor) -> Tensor:
        """The scalar ``[...]`` whose symlog is the mean over the bins of ``logits`` ``[..., V]``."""
        # no matrix product, which autocast would round: in bfloat16, values above 50 are 3 % apart
        return symexp((torch.softmax(logits.float(), dim=-1) * self.centres).sum(dim=-1))

    def cross_entropy(self, logits: Tensor, x: Tensor) -> Tensor:
        """Cross-entropy ``[...]`` of ``logits`` ``[..., V]`` from the two-hot of ``x``, broadcast."""
        log_probs = torch.log_softmax(logits.float(), dim=-1)
        index, share = (z.expand(*log_probs.shape[:-1], 1) for z in self._place(x))
        low, high = log_probs.gather(-1, index), log_probs.gather(-1, index + 1)
        return -torch.lerp(low, high, share)[..., 0]
