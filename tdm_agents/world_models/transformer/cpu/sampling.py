"""Sampling of one bin per row from its logits, in one pass while they are in the cache."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numba import njit, types
from torch import Tensor

from tdm_agents.world_models.transformer.cpu.keeping import VERSION, kept
from tdm_agents.world_models.transformer.cpu.powers import exp2, loop
from tdm_agents.world_models.transformer.cpu.vectors import largest

_BLOCK = 64
_LOG2_E = np.float32(np.log2(np.e))


def sampled_bins(logits: Tensor, uniform: Tensor) -> Tensor:
    """:func:`tdm_agents.world_models.transformer.decoding.reading.choose_bin` on a CPU.

    Args:
        logits: ``[..., bins]`` float32.
        uniform: ``[...]`` float32, or a shape that broadcasts to it.

    Returns:
        ``[...]`` int64.
    """
    uniform = uniform.expand(logits.shape[:-1])
    chosen = torch.empty(uniform.shape, dtype=torch.int64, device="cpu")
    _compiled()(
        logits.reshape(-1, logits.shape[-1]).contiguous().numpy(),
        uniform.reshape(-1).contiguous().numpy(),
        chosen.view(-1).numpy(),
    )
    return chosen


@functools.cache
def _compiled() -> Any:
    version = VERSION  # numba compares it with what it kept

    def sample(logits: Any, uniform: Any, chosen: Any) -> None:
        _ = version
        _sample(logits, uniform, chosen)

    takes = types.void(types.float32[:, ::1], types.float32[::1], types.int64[::1])
    return kept(functools.partial(njit, takes, nogil=True), sample)


@loop
def _sample(logits: Any, uniform: Any, chosen: Any) -> None:
    rows, bins = logits.shape
    blocks = (bins + _BLOCK - 1) // _BLOCK
    weights = np.zeros(blocks * _BLOCK, np.float32)
    sums = np.empty(blocks, np.float32)
    for row in range(rows):
        logit = logits[row]
        most = largest(logit, bins)
        for j in range(bins):
            power = (logit[j] - most) * _LOG2_E
            weights[j] = exp2(power) if power > np.float32(-126) else np.float32(0)  # 0: a masked bin
        total = np.float32(0)
        for block in range(blocks):
            inside = weights[block * _BLOCK : (block + 1) * _BLOCK]
            part = np.float32(0)
            for j in range(inside.shape[0]):  # numba vectorises loops of unknown length from 0
                part += inside[j]
            sums[block] = part
            total += part
        threshold, below, before, chosen_block = uniform[row] * total, np.float32(0), np.float32(0), 0
        # if rounding keeps the sum below the threshold, the last bin that made it larger is chosen
        for block in range(blocks):
            if below + sums[block] > below:
                chosen_block, before = block, below
                below += sums[block]
                if below > threshold:
                    break
        below, last = before, chosen_block * _BLOCK
        for j in range(chosen_block * _BLOCK, min(bins, (chosen_block + 1) * _BLOCK)):
            if below + weights[j] > below:
                last = j
                below += weights[j]
                if below > threshold:
                    break
        chosen[row] = last
