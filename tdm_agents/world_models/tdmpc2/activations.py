"""LayerNorm and an activation together: compiled loops on a CPU, PyTorch's operations elsewhere."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tdm_agents.world_models.transformer.cpu import compiles

_COMPILED = (torch.float32, torch.bfloat16)


def normed(x: Tensor, gain: Tensor, shift: Tensor, *, group: int = 0) -> Tensor:
    """LayerNorm over the last axis, then Mish, or SimNorm: softmax over groups of numbers.

    Args:
        x: ``[..., d]``, or ``[E, ..., d]`` for the members of an ensemble.
        gain: ``[d]`` or ``[E, d]``, float32, of LayerNorm.
        shift: Like ``gain``.
        group: Consecutive numbers that SimNorm makes sum to 1; 0 for Mish.
    """
    if x.device.type == "cpu" and x.dtype in _COMPILED and compiles():
        members = gain.shape[0] if gain.ndim == 2 else 1
        rows = x.reshape(members, -1, x.shape[-1])
        parameters = gain.view(members, -1), shift.view(members, -1)
        if torch.is_grad_enabled():
            y: Tensor = _Normed.apply(rows, *parameters, group)  # type: ignore[no-untyped-call]
            return y.view(x.shape)
        moments = torch.empty((*rows.shape[:2], 2), dtype=torch.float32, device="cpu")
        _loops(x, group)[0](*_arrays(rows, *parameters, rows, moments))
        return rows.view(x.shape)
    between = (1,) * (x.ndim - 2)
    if gain.ndim == 2:
        gain, shift = (z.view(len(z), *between, -1) for z in (gain, shift))
    y = torch.addcmul(shift, F.layer_norm(x, x.shape[-1:]), gain).to(x.dtype)
    return sim_norm(y, group) if group else F.mish(y)


def sim_norm(x: Tensor, group: int) -> Tensor:
    """Softmax over consecutive groups of ``group`` numbers: ``[..., d]``, all of it at least 0."""
    groups = x.reshape(*x.shape[:-1], -1, group)
    return torch.softmax(groups, dim=-1).flatten(-2)


class _Normed(torch.autograd.Function):
    """:func:`normed` of ``[E, R, d]`` by compiled loops."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, shift: Tensor, group: int) -> Tensor:
        x = x.contiguous()
        y = torch.empty_like(x)
        moments = torch.empty((*x.shape[:2], 2), dtype=torch.float32, device=x.device)
        _loops(x, group)[0](*_arrays(x, gain, shift, y, moments))
        ctx.save_for_backward(x, gain, shift, moments)
        ctx.group = group
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, shift, moments = ctx.saved_tensors
        dx, dgain, dshift = torch.empty_like(x), torch.empty_like(gain), torch.empty_like(shift)
        dy = gradients[0].to(x.dtype).contiguous()
        _loops(x, ctx.group)[1](*_arrays(x, gain, shift, moments, dy, dx, dgain, dshift))
        return dx, dgain, dshift, None


def _loops(x: Tensor, group: int) -> tuple[Any, Any]:
    from tdm_agents.world_models.tdmpc2.activation_loops import loops  # here: importing numba takes a second

    return loops(x.element_size(), group)


def _arrays(*tensors: Tensor) -> list[Any]:
    """What the loops read and write; bfloat16, which NumPy does not know, by its bits."""
    return [
        (t.detach().view(torch.uint16) if t.dtype == torch.bfloat16 else t.detach()).contiguous().numpy()
        for t in tensors
    ]
