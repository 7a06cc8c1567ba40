"""Bootstrap weights that are a function of a transition alone.

Every member of a bootstrap ensemble learns from a sample of the data, drawn with replacement. In the sample
of as many transitions as there are data, a transition occurs about Poisson(1) times, independently of the
others (Oza and Russell 2001, "Online bagging"). That number is derived here from the bits of the transition
and the number of the member. It is therefore the same in every epoch, on every device and after every
interruption; and nobody needs to know how many data there are, or keeps a table of indices.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MOST = 10  # Poisson(1) exceeds it once in a hundred million


def bootstrap_weights(transitions: Tensor, members: int) -> Tensor:
    """How often each transition is in each member's sample.

    Args:
        transitions: ``[R, d]``, cast to float32; equal rows have equal weights.
        members: ``E``.

    Returns:
        ``[E, R]`` float32, each Poisson(1) distributed.
    """
    device = transitions.device
    bits = transitions.float().contiguous().view(torch.int32).long() & _MASK  # [R, d]
    columns = _mixed(torch.arange(1, bits.shape[1] + 1, device=device))
    rows = _mixed(_mixed(bits ^ columns).sum(1) & _MASK)  # [R]
    salts = _mixed(torch.arange(1, members + 1, device=device) * 0x9E3779B1 & _MASK)
    uniform = _mixed(rows ^ salts[:, None]).double() / 2**32  # [E, R]
    counts = torch.arange(_MOST, device=device, dtype=torch.float64)
    cumulative = torch.cumsum(torch.exp(-1.0 - torch.lgamma(counts + 1.0)), 0)
    return torch.searchsorted(cumulative, uniform, right=True).float()


def _mixed(value: Tensor) -> Tensor:
    """A permutation of 32-bit numbers that spreads every bit over all others (Mueller's hash)."""
    for _ in range(2):
        value = ((value ^ (value >> 16)) * 0x45D9F3B) & _MASK  # 59 bits: no overflow
    return value ^ (value >> 16)
