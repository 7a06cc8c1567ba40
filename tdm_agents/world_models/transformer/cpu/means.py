"""The mean of the bins around the most likely one, as one loop per row while its logits are in the cache."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numba import njit, types
from torch import Tensor

from tdm_agents.world_models.transformer.cpu.keeping import VERSION, kept
from tdm_agents.world_models.transformer.cpu.powers import exp2
from tdm_agents.world_models.transformer.cpu.vectors import largest

_LOG2_E = np.float32(np.log2(np.e))


def means_near_modes(logits: Tensor, centres: Tensor, window: int) -> Tensor:
    """:func:`tdm_agents.world_models.transformer.decoding.reading.mean_near_mode` on a CPU.

    Args:
        logits: ``[..., bins]`` float32.
        centres: ``[(...,) bins]`` float32, the shape of ``logits`` except for leading axes.
        window: Bins on either side of the mode.

    Returns:
        ``[...]``; NaN where the logits hold NaN.
    """
    bins = logits.shape[-1]
    means = torch.empty(logits.shape[:-1], dtype=torch.float32, device="cpu")
    _compiled()(
        logits.reshape(-1, bins).contiguous().numpy(),
        centres.reshape(-1, bins).contiguous().numpy(),
        min(2 * window + 1, bins),
        window,
        means.view(-1).numpy(),
    )
    return means


@functools.cache
def _compiled() -> Any:
    version = VERSION  # numba compares it with what it kept

    def mean(logits: Any, centres: Any, size: int, before: int, means: Any) -> None:
        _ = version
        rows, bins = logits.shape
        for row in range(rows):
            logit, centre = logits[row], centres[row % centres.shape[0]]
            most, mode = largest(logit, bins), 0
            while mode < bins and logit[mode] < most:
                mode += 1
            first = min(max(mode - before, 0), bins - size)
            total, weighed = np.float32(0), np.float32(0)
            for j in range(first, first + size):
                weight = exp2((logit[j] - most) * _LOG2_E)
                total += weight
                weighed += weight * centre[j]
            means[row] = weighed / total if mode < bins and logit[mode] == most else np.float32(np.nan)

    numbers, vector = types.float32[:, ::1], types.float32[::1]
    takes = types.void(numbers, numbers, types.int64, types.int64, vector)
    return kept(functools.partial(njit, takes, nogil=True, error_model="numpy"), mean)
