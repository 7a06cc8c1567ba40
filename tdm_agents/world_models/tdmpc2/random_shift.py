"""Random shifts of images, the augmentation of TD-MPC2 (Kostrikov et al. 2021, arXiv:2004.13649)."""

from __future__ import annotations

import torch
from torch import Tensor

MOST = 3
"""Pixels that an image is shifted by at most, in each direction."""


def shifted(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Each image moved by its own whole number of pixels; its edges are repeated where it has moved away.

    Args:
        images: ``[N, F, H, W, C]``, of any dtype.
        generator: Source of the shifts; None moves nothing.

    Returns:
        ``[N, F * C, H, W]``, in memory with the channels last.
    """
    count, frames, height, width, colours = images.shape
    if generator is None:
        moved = images.permute(0, 2, 3, 1, 4)
    else:
        drawn = torch.randint(-MOST, MOST + 1, (2, count, 1), generator=generator, device=images.device)
        rows = (torch.arange(height, device=images.device) + drawn[0]).clamp(0, height - 1)  # [N, H]
        columns = (torch.arange(width, device=images.device) + drawn[1]).clamp(0, width - 1)  # [N, W]
        number = torch.arange(count, device=images.device)[:, None, None]
        moved = images[number, :, rows[:, :, None], columns[:, None, :]]  # [N, H, W, F, C]
    return moved.reshape(count, height, width, frames * colours).permute(0, 3, 1, 2)
