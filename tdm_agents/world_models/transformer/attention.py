"""Attention over whole sequences inside a causal band of decision steps, for training."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from tdm_agents.world_models.transformer.cpu.training_loops import runs_loops
from tdm_agents.world_models.transformer.operations import attended
from tdm_agents.world_models.transformer.packing import Band, Packed

CPU_QUERY_TOKENS = 96
"""Smallest block of queries on a CPU, in tokens; 50 to 100 are fastest."""
QUERY_TOKENS = 1024
"""Smallest block of queries elsewhere, in tokens; a GPU is faster with few large ones."""


def band_mask(
    steps: int, step_tokens: int, context_steps: int, device: torch.device, *, whole: bool = False
) -> Tensor:
    """Causal band over ``steps`` whole steps, ``[S, S]`` bool, ``S = steps * step_tokens``.

    A token sees itself, the tokens before it in its step (all of its step, if ``whole``), and the
    ``context_steps - 1`` steps before.
    """
    index = torch.arange(steps * step_tokens, device=device)
    step = index // step_tokens
    before = step[:, None] >= step if whole else index[:, None] >= index
    return before & (step[:, None] - step < context_steps)


def banded_attention(
    query: Tensor, key: Tensor, value: Tensor, *, step_tokens: int, context_steps: int, whole: bool = False
) -> Tensor:
    """Attention inside the band of :func:`band_mask`.

    Where the sequence is longer than the band, queries are cut into blocks of whole steps, and each block
    reads only the keys of its own band: the work grows with the length, not with its square.

    Args:
        query: ``[B, heads, S, head_dim]``, ``S`` a multiple of ``step_tokens``.
        key: Same shape as ``query``.
        value: Same shape as ``query``.
        step_tokens: Tokens per decision step.
        context_steps: Steps in the band.
        whole: Whether the tokens of a step see each other.

    Returns:
        ``[B, heads, S, head_dim]``.
    """
    steps = query.shape[2] // step_tokens
    if steps <= context_steps and not whole:  # nothing leaves the band: fused kernels support this mask
        return _attention(query, key, value, None)
    least = CPU_QUERY_TOKENS if query.device.type == "cpu" else QUERY_TOKENS
    block = min(steps, max(-(-least // step_tokens), -(-context_steps // 4)))  # steps
    past = context_steps - 1  # steps that a block sees of the past, if there are so many
    mask = band_mask(past + block, step_tokens, context_steps, query.device, whole=whole)[
        past * step_tokens :
    ]
    queries, keys, values = (torch.split(x, block * step_tokens, dim=2) for x in (query, key, value))
    attended = []
    for index, rows in enumerate(queries):
        start = index * block
        seen = max(0, start - past)  # the first step that it sees
        first, skipped = divmod(seen, block)
        seen_keys, seen_values = (
            torch.cat(x[first : index + 1], dim=2)[:, :, skipped * step_tokens :] for x in (keys, values)
        )
        missing = (past - (start - seen)) * step_tokens
        own_mask = mask[: rows.shape[2], missing : missing + seen_keys.shape[2]]
        attended.append(_attention(rows, seen_keys, seen_values, own_mask))
    return torch.cat(attended, dim=2)


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attention, causal without a mask. Under autocast a CPU computes it in float32.

    Its gradient in bfloat16 takes a CPU 1.7 to 4.4 times as long (``benchmarks/bf16_attention.py``).
    """
    causal = mask is None
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
    dtype = torch.promote_types(value.dtype, torch.float32)
    with torch.autocast("cpu", enabled=False):
        attended = F.scaled_dot_product_attention(
            query.to(dtype), key.to(dtype), value.to(dtype), attn_mask=mask, is_causal=causal
        )
    return attended.to(value.dtype)


def padded_mask(packed: Packed) -> Tensor | None:
    """What each token of padded windows sees, ``[B, 1, length, length]`` bool.

    None where that is every token before it: padding comes last and is seen by nothing else.
    """
    padding = packed.padding
    assert padding is not None
    whole = packed.bands[0].whole
    if padding.fits and not whole:
        return None
    flat = packed.steps.new_full((padding.windows * padding.length,), -1)
    step = flat.index_copy(0, padding.place, packed.steps).view(padding.windows, padding.length)
    query, key = step[:, :, None], step[:, None, :]
    seen = (query >= key) & (key >= 0) & (query - key < padding.context_steps[:, None, None])
    if not whole:
        index = torch.arange(padding.length, device=step.device)
        seen &= index[:, None] >= index
    # padding sees all: a softmax over nothing would be NaN, and its gradient, too
    return (seen | (query < 0))[:, None]


def padded_attention(
    query: Tensor, key: Tensor, value: Tensor, packed: Packed, mask: Tensor | None
) -> Tensor:
    """Attention of all windows in one operation, padded to one length.

    Args:
        query: ``[heads, S, head_dim]``.
        key: Same shape as ``query``.
        value: Same shape as ``query``.
        packed: The sequence, with a padding.
        mask: Its :func:`padded_mask`.

    Returns:
        ``[S, heads * head_dim]``.
    """
    padding = packed.padding
    assert padding is not None
    heads, _, head_dim = query.shape
    rows = padding.windows * padding.length
    # under autocast, rotated queries and keys are float32, and values are not
    together = torch.stack([query.to(value.dtype), key.to(value.dtype), value])
    together = together.permute(2, 0, 1, 3)  # [S, 3, heads, head_dim]
    padded = together.new_zeros((rows, 3, heads, head_dim)).index_copy(0, padding.place, together)
    padded = padded.view(padding.windows, padding.length, 3, heads, head_dim)
    queries, keys, values = padded.permute(2, 0, 3, 1, 4)  # [B, heads, length, head_dim] each
    found = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=mask is None)
    return found.transpose(1, 2).reshape(rows, -1).index_select(0, padding.place)


# not compiled: its kernels gain nothing, and every mixture has bands of its own
@torch.compiler.disable  # type: ignore[untyped-decorator]
def packed_attention(query: Tensor, key: Tensor, value: Tensor, packed: Packed) -> Tensor:
    """Attention inside each window of a flat sequence, within its band.

    Args:
        query: ``[heads, S, head_dim]``.
        key: Same shape as ``query``.
        value: Same shape as ``query``.
        packed: The sequence, of which only the bands are read (here: callers that are compiled would be
            compiled anew for other bands).

    Returns:
        ``[S, heads * head_dim]``.
    """
    if query.dtype == torch.float32 and runs_loops(query[0]):
        return attended(query, key, value, _windows(packed.bands))
    found = []
    bands = packed.bands
    sizes = [band.tokens for band in bands]
    # split, not slices: the gradient of each slice would be as long as the whole sequence
    for band, *pieces in zip(
        bands, *(torch.split(x, sizes, dim=1) for x in (query, key, value)), strict=True
    ):
        of_windows = (
            x.unflatten(1, (band.windows, band.window_tokens)).transpose(0, 1) for x in pieces
        )  # [B, heads, T * step_tokens, head_dim]
        heads = banded_attention(
            *of_windows,
            step_tokens=band.step_tokens,
            context_steps=band.context_steps,
            whole=band.whole,
        )
        found.append(heads.transpose(1, 2).flatten(0, 1).flatten(1))
    return torch.cat(found)


@functools.lru_cache(maxsize=4)
def _windows(bands: tuple[Band, ...]) -> Tensor:
    """What the loop is told of each window; see :func:`.band_loops.attend`."""
    rows, first = [], 0
    for band in bands:
        for _ in range(band.windows):
            rows.append((first, band.window_tokens, band.step_tokens, band.context_steps, band.whole))
            first += band.window_tokens
    return torch.tensor(rows, dtype=torch.int64, device="cpu")
