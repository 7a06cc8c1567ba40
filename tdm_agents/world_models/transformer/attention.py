"""Attention of whole sequences inside a causal band of decision steps, for training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tdm_agents.world_models.transformer.packing import Band


def band_mask(steps: int, step_tokens: int, context_steps: int, device: torch.device) -> Tensor:
    """Causal band over ``steps`` whole steps, ``[S, S]`` bool, ``S = steps * step_tokens``.

    A token sees itself, what came before it in its step, and the ``context_steps - 1`` steps before.
    """
    index = torch.arange(steps * step_tokens, device=device)
    step = index // step_tokens
    return (index[:, None] >= index) & (step[:, None] - step < context_steps)


def banded_attention(
    query: Tensor, key: Tensor, value: Tensor, *, step_tokens: int, context_steps: int
) -> Tensor:
    """Attention inside the band of :func:`band_mask`.

    Where the sequence is more than twice as long as the band, it is cut into blocks as long as the band, and
    each block sees itself and the one before: the work grows with the length, not with its square.

    Args:
        query: ``[B, heads, S, head_dim]``, ``S`` a multiple of ``step_tokens``.
        key: Likewise.
        value: Likewise.
        step_tokens: Tokens of a decision step.
        context_steps: Steps in the band.

    Returns:
        ``[B, heads, S, head_dim]``.
    """
    length = query.shape[2]
    steps = length // step_tokens
    if steps <= context_steps:  # nothing leaves the band: the fused kernels know this mask
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    if steps <= 2 * context_steps:
        mask = band_mask(steps, step_tokens, context_steps, query.device)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    block = context_steps * step_tokens
    padding = -length % block
    blocks = (*query.shape[:2], -1, block, query.shape[3])
    query, key, value = (F.pad(x, (0, 0, 0, padding)).reshape(blocks) for x in (query, key, value))
    key, value = (
        torch.cat([F.pad(x, (0, 0, 0, 0, 1, 0))[:, :, :-1], x], dim=3) for x in (key, value)
    )  # [B, heads, blocks, 2 block, head_dim]
    mask = band_mask(2 * context_steps, step_tokens, context_steps, query.device)[block:]
    mask = mask.expand(query.shape[2], -1, -1).clone()  # [blocks, block, 2 block]
    mask[0, :, :block] = False  # nothing stands before the first block
    # plain products: at a few dozen keys the fused kernel's backward is several times slower on CPU
    scores = (query @ key.transpose(-1, -2)) * query.shape[-1] ** -0.5
    weights = scores.float().masked_fill(~mask, float("-inf")).softmax(dim=-1)
    attended: Tensor = weights.to(value.dtype) @ value
    return attended.flatten(2, 3)[:, :, :length]


def packed_attention(query: Tensor, key: Tensor, value: Tensor, bands: Sequence[Band]) -> Tensor:
    """Attention of the windows of a flat sequence, each to itself and inside its band.

    Args:
        query: ``[heads, S, head_dim]``.
        key: Likewise.
        value: Likewise.
        bands: Of the sequence, in order.

    Returns:
        ``[S, heads * head_dim]``.
    """
    attended = []
    sizes = [band.tokens for band in bands]
    # split, not slices: the gradient of each slice would be as long as the whole sequence
    for band, *pieces in zip(bands, *(torch.split(x, sizes, dim=1) for x in (query, key, value)), strict=True):
        of_windows = (
            x.unflatten(1, (band.windows, band.window_tokens)).transpose(0, 1) for x in pieces
        )  # [B, heads, T * step_tokens, head_dim]
        heads = banded_attention(
            *of_windows, step_tokens=band.step_tokens, context_steps=band.context_steps
        )
        attended.append(heads.transpose(1, 2).flatten(0, 1).flatten(1))
    return torch.cat(attended)
