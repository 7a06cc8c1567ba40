"""What is between the products of a block: loops in training on a CPU, elsewhere PyTorch's operations.

A loop reads and writes each number once, in the precision of the products. Its results differ from PyTorch's
by rounding: those of ``bfloat16`` are rounded once, and not after each operation.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tdm_agents.world_models.transformer.cpu.training_loops import ACTIVATIONS, run_loop, runs_loops
from tdm_agents.world_models.transformer.token_batch import IGNORED

Rotation = tuple[Tensor, Tensor]
"""Cosine and sine, ``[S, head_dim / 2]`` each."""


def normed(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """LayerNorm of ``[S, d]``, for products."""
    if not runs_loops(x) or not _in_float32(x, norm.weight):
        return norm(x)  # type: ignore[no-any-return]
    made: Tensor = _Norm.apply(x, norm.weight, norm.bias, of_products())  # type: ignore[no-untyped-call]
    return made


def rotated(qkv: Tensor, rotation: Rotation, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rotated queries and keys, and values, each ``[heads, S, head_dim]``, of ``[S, 3 d]``."""
    if runs_loops(qkv) and _in_float32(*rotation):
        found: tuple[Tensor, Tensor, Tensor] = _Rotate.apply(qkv, *rotation, heads)  # type: ignore[no-untyped-call]
        return found
    parts = qkv.view(len(qkv), 3 * heads, -1)
    query, key = rotate(parts[:, : 2 * heads], rotation).transpose(0, 1).chunk(2)
    return query, key, parts[:, 2 * heads :].transpose(0, 1)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotary embedding of ``x[..., S, heads, head_dim]``."""
    cosine, sine = rotation[0][:, None], rotation[1][:, None]  # [S, 1, head_dim / 2]
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def gated(x: Tensor) -> Tensor:
    """``GELU(gate) * value`` of gates and values beside each other, ``[..., 2 f]``."""
    if runs_loops(x):
        made: Tensor = _Gate.apply(x)  # type: ignore[no-untyped-call]
        return made
    gate, value = x.chunk(2, dim=-1)
    return F.gelu(gate) * value


def added(x: Tensor, y: Tensor, kept: Tensor | None = None) -> Tensor:
    """``x + y kept``, all of them ``[..., d]``; without ``kept``, ``x + y``."""
    if runs_loops(x) and y.dtype in ACTIVATIONS and _in_float32(x, *([] if kept is None else [kept])):
        made: Tensor = _Add.apply(x, y, kept)  # type: ignore[no-untyped-call]
        return made
    return x + (y if kept is None else y * kept)


def attended(query: Tensor, key: Tensor, value: Tensor, windows: Tensor) -> Tensor:
    """Attention inside bands by a loop, ``[S, heads * head_dim]`` for products.

    Args:
        query: ``[heads, S, head_dim]`` float32; :func:`.training_loops.runs_loops` must be true of its heads.
        key: See ``query``.
        value: See ``query``.
        windows: ``[W, 5]`` int64; see :func:`.band_loops.attend`.
    """
    found: Tensor = _Attend.apply(query, key, value, windows, of_products())  # type: ignore[no-untyped-call]
    return found


def negative_log_likelihood(logits: Tensor, target: Tensor, choices: Tensor | None) -> Tensor:
    """Of each row's target, float32 ``[R]``; 0 where it is :data:`IGNORED`.

    Args:
        logits: ``[R, bins]``.
        target: ``[R]`` int64.
        choices: ``[R]`` int64, the number of bins that count; None: all.
    """
    if runs_loops(logits):
        found: Tensor = _Entropy.apply(logits, target, choices)  # type: ignore[no-untyped-call]
        return found
    logits = logits.float()
    if choices is not None:
        beyond = torch.arange(logits.shape[1], device=logits.device) >= choices[:, None]
        logits = logits.masked_fill(beyond, float("-inf"))
    return F.cross_entropy(logits, target, ignore_index=IGNORED, reduction="none")


def _in_float32(*tensors: Tensor) -> bool:
    """Whether tensors are as loops read everything but activations, also where a model is of another type."""
    return all(x.dtype == torch.float32 for x in tensors)


def of_products() -> torch.dtype:
    """The dtype of products on a CPU."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, shift: Tensor, dtype: torch.dtype) -> Tensor:
        x = x.contiguous()
        y, moments = torch.empty_like(x, dtype=dtype), x.new_empty((len(x), 2))
        run_loop("norm", len(x), x, gain, shift, y, moments, sizes=(x.shape[1],))
        ctx.save_for_backward(x, gain, moments)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, moments = ctx.saved_tensors
        threads, width = torch.get_num_threads(), x.shape[1]
        dx, dgain, dshift = torch.empty_like(x), x.new_zeros((threads, width)), x.new_zeros((threads, width))
        of = x, gain, moments, dy.contiguous(), dx, dgain, dshift
        run_loop("norm_gradient", len(x), *of, sizes=(width, threads))
        return dx, dgain.sum(dim=0), dshift.sum(dim=0), None


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cosine: Tensor, sine: Tensor, heads: int) -> tuple[Tensor, ...]:
        rows, half = cosine.shape
        out = cosine.new_empty((3, heads, rows, 2 * half))
        run_loop("rotate", rows, qkv.contiguous(), cosine, sine, out, sizes=(heads, half))
        ctx.save_for_backward(cosine, sine)
        ctx.dtype = qkv.dtype
        return out[0], out[1], out[2]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        cosine, sine = ctx.saved_tensors
        rows, half = cosine.shape
        heads = len(gradients[0])
        dqkv = cosine.new_empty((rows, 6 * heads * half), dtype=ctx.dtype)
        of = (*(d.contiguous() for d in gradients), cosine, sine, dqkv)
        run_loop("rotate_gradient", rows, *of, sizes=(heads, half))
        return dqkv, None, None, None


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, windows: Tensor, dtype: torch.dtype
    ) -> Tensor:
        heads, tokens, width = query.shape
        of = windows, windows[:, 1].max(), *(x.contiguous() for x in (query, key, value))
        out, totals = query.new_empty((tokens, heads * width), dtype=dtype), query.new_empty((heads, tokens))
        run_loop("attend", len(windows) * heads, *of, out, totals, sizes=(heads, width, tokens))
        ctx.save_for_backward(*of, totals)
        ctx.sizes = heads, width, tokens
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        windows, *of, totals = ctx.saved_tensors
        heads, width, tokens = ctx.sizes
        made = totals.new_empty((3, heads, tokens, width))
        of = windows, *of, totals, dout.contiguous(), made
        run_loop("attend_gradient", len(windows) * heads, *of, sizes=ctx.sizes)
        return *made.unbind(), None, None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        y = x.new_empty((len(x), x.shape[1] // 2))
        run_loop("gate", len(x), x, y, sizes=(y.shape[1],))
        ctx.save_for_backward(x)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        dx = torch.empty_like(x)
        run_loop("gate_gradient", len(x), x, dy.contiguous(), dx, sizes=(dy.shape[1],))
        return dx


class _Add(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, kept: Tensor | None) -> Tensor:
        factors, out = x.new_empty(0) if kept is None else kept.contiguous(), torch.empty_like(x)
        of = x.contiguous(), y.contiguous(), factors, out
        run_loop("add", len(x), *of, sizes=(x.shape[1], int(kept is not None)))
        ctx.save_for_backward(factors)
        ctx.dtype = y.dtype
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        (factors,) = ctx.saved_tensors
        dout = dout.contiguous()
        if ctx.dtype == dout.dtype and not len(factors):
            return dout, dout, None
        dy = torch.empty_like(dout, dtype=ctx.dtype)
        run_loop("add_gradient", len(dout), dout, factors, dy, sizes=(dout.shape[1], int(len(factors) > 0)))
        return dout, dy, None


class _Entropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, choices: Tensor | None) -> Tensor:
        logits, target = logits.contiguous(), target.contiguous()
        limits = target.new_empty(0) if choices is None else choices.contiguous()
        nll, totals = (target.new_empty(len(target), dtype=torch.float32) for _ in range(2))
        ctx.sizes = logits.shape[1], int(choices is not None)
        run_loop("entropy", len(target), logits, target, limits, nll, totals, sizes=ctx.sizes)
        ctx.save_for_backward(logits, target, limits, totals)
        return nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dnll: Tensor) -> tuple[Tensor | None, ...]:
        logits, target, limits, totals = ctx.saved_tensors
        dlogits = torch.empty_like(logits)
        of = logits, target, limits, totals, dnll.contiguous(), dlogits
        run_loop("entropy_gradient", len(target), *of, sizes=ctx.sizes)
        return dlogits, None, None
