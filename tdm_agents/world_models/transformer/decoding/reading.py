"""Reading of a value from output logits: a sample, the most likely bin, or the mean around it."""

from __future__ import annotations

import torch
from torch import Tensor

from tdm_agents.world_models.transformer.cpu import compiles


def choose_bin(logits: Tensor, uniform: Tensor | None) -> Tensor:
    """One bin per row: the inverse of the cumulative distribution at ``uniform``, or else the mode.

    One uniform number per row suffices to sample; noise for every bin is not needed.

    Args:
        logits: ``[..., bins]`` float32.
        uniform: ``[...]`` in [0, 1), or None for the mode.

    Returns:
        Bin indices ``[...]`` int64.
    """
    if uniform is None:
        return logits.argmax(dim=-1)
    if logits.device.type == "cpu" and logits.dtype == torch.float32 and compiles():
        from tdm_agents.world_models.transformer.cpu.sampling import sampled_bins  # imports numba

        return sampled_bins(logits, uniform)
    cumulative = logits.softmax(dim=-1).cumsum(dim=-1)  # [..., bins]
    threshold = (uniform[..., None] * cumulative[..., -1:]).contiguous()
    return torch.searchsorted(cumulative, threshold, right=True)[..., 0].clamp_(max=logits.shape[-1] - 1)


def mean_near_mode(logits: Tensor, centres: Tensor, window: int) -> Tensor:
    """The expected value over the ``2 window + 1`` bins around the mode.

    It is finer than a bin and, unlike the mean over all bins, never between two separate modes. A window that
    would pass an end is moved inside.

    Args:
        logits: ``[..., bins]`` float32.
        centres: The value of each bin, in the shape of ``logits`` except for leading axes.
        window: Bins on either side of the mode.

    Returns:
        Values ``[...]``.
    """
    if logits.device.type == "cpu" and logits.dtype == torch.float32 and compiles():
        from tdm_agents.world_models.transformer.cpu.means import means_near_modes  # imports numba

        return means_near_modes(logits, centres, window)
    bins = logits.shape[-1]
    size = min(2 * window + 1, bins)
    first = (logits.argmax(dim=-1, keepdim=True) - window).clamp_(0, bins - size)
    near = first + torch.arange(size, device=logits.device)  # [..., size]
    weights = logits.gather(-1, near).softmax(dim=-1)
    return (weights * centres.expand_as(logits).gather(-1, near)).sum(dim=-1)
