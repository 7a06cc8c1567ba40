"""The running range of values that a policy's loss is divided by."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningScale(nn.Module):
    """Moving average of the distance from the 5th to the 95th percentile, never below 1.

    Args:
        tau: Share of the new distance.
    """

    def __init__(self, tau: float) -> None:
        super().__init__()
        self.tau = tau
        self.scale: Tensor
        self.register_buffer("scale", torch.ones((), device="cpu", dtype=torch.float32))

    def after(self, values: Tensor, counts: Tensor) -> Tensor:
        """What the scale becomes with ``values`` ``[R]`` of which those with ``counts`` ``[R]`` count."""
        seen = torch.where(counts, values.detach().float(), torch.nan)
        low, high = torch.nanquantile(seen, seen.new_tensor([0.05, 0.95]))
        return torch.lerp(self.scale, (high - low).clamp_min(1.0), self.tau)
