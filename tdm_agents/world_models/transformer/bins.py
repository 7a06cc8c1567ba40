"""Uniform bins on a linear or mu-law scale, which turn numbers into tokens and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from tdm_agents.errors import WrongOrderError

MIN_RANGE = 1e-6
"""Shortest range of a dimension, in its own units: the range of a constant zero."""
MIN_WIDTH_ULPS = 4.0
"""Smallest bin width in float32 spacings of the range's largest value, so that bin centres stay distinct."""


@dataclass(frozen=True)
class MuLaw:
    """The companding curve of Gato's appendix B: fine near 0, coarse far from it.

    Attributes:
        mu: Compression.
        limit: ``M``, the magnitude that maps to 1.
    """

    mu: float
    limit: float

    def compress(self, value: Tensor) -> Tensor:
        """``sign(x) log(1 + mu |x|) / log(1 + mu M)``, which maps [-M, M] to [-1, 1]."""
        return value.sign() * torch.log1p(self.mu * value.abs()) / math.log1p(self.mu * self.limit)

    def expand(self, value: Tensor) -> Tensor:
        """The inverse of :meth:`compress`."""
        return value.sign() * torch.expm1(value.abs() * math.log1p(self.mu * self.limit)) / self.mu


class Bins(nn.Module):
    """Uniform bins per column, on a linear or a mu-law scale.

    The ranges are float32 buffers and stay float32 when the rest of a model is cast to bfloat16, which cannot
    tell 1024 bins apart.

    Args:
        columns: Number of columns, or None for one scalar without a column axis.
        bins: Number of bins.
        scale: The mu-law, or None for a linear scale.
        fixed: Whether the range is [-1, 1] on the scale; else :meth:`set_range` or a state dict gives it.
        device: Where the ranges are.
    """

    low: Tensor
    width: Tensor

    def __init__(
        self,
        columns: int | None,
        bins: int,
        *,
        scale: MuLaw | None,
        fixed: bool,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.bins = bins
        self.scale = scale
        self.fitted = fixed
        shape = () if columns is None else (columns,)
        low, width = (-1.0, 2.0 / bins) if fixed else (math.nan, math.nan)
        self.register_buffer("low", torch.full(shape, low, dtype=torch.float32, device=device))
        self.register_buffer("width", torch.full(shape, width, dtype=torch.float32, device=device))
        self.register_load_state_dict_post_hook(_note_loaded)  # type: ignore[no-untyped-call]

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Cover [low, high], widened around its middle where float32 could not tell the bins apart.

        A constant column gets ``max(MIN_RANGE, MIN_WIDTH_ULPS * bins * 2^-23 * |value|)``.

        Args:
            low: Lower ends, in the buffers' shape; ``low <= high``.
            high: Upper ends, in the same shape.
        """
        low, high = low.double(), high.double()
        magnitude = torch.maximum(low.abs(), high.abs())
        least = MIN_WIDTH_ULPS * self.bins * torch.finfo(torch.float32).eps * magnitude
        lacking = (least.clamp(min=MIN_RANGE) - (high - low)).clamp(min=0.0)
        self.low.copy_(low - lacking / 2)
        self.width.copy_((high - low + lacking) / self.bins)
        self.fitted = True

    def encode(self, value: Tensor, column: int | None = None) -> Tensor:
        """Bin indices, int64, in ``value``'s shape: ``[..., columns]``, or any shape for one ``column``."""
        low, width = self._range(value, column)
        scaled = value.float()  # a 0-dim float32 range would not promote a half-precision value
        if self.scale is not None:
            scaled = self.scale.compress(scaled)
        # clamped at 0 first, so that the cast's truncation is a floor
        return ((scaled - low) / width).clamp(0, self.bins - 1).long()

    def decode(self, index: Tensor, column: int | None = None) -> Tensor:
        """Bin centres, float32, in the shape of ``index``; on a mu-law scale, the centre on that scale."""
        low, width = self._range(index, column)
        centre = low + (index.float() + 0.5) * width
        return centre if self.scale is None else self.scale.expand(centre)

    def centres(self, column: int | None = None) -> Tensor:
        """The centres ``[bins]`` of one column."""
        return self.decode(torch.arange(self.bins, device=self.low.device), column)

    def _range(self, value: Tensor, column: int | None) -> tuple[Tensor, Tensor]:
        if not self.fitted:
            raise WrongOrderError("these bins have no range yet: call Tokenizer.fit, or load a state dict")
        if column is not None:
            return self.low[column], self.width[column]
        # broadcasting would accept a last axis of 1 as every column
        if self.low.ndim and (not value.ndim or value.shape[-1] != self.low.shape[0]):
            raise ValueError(f"shape {tuple(value.shape)}; expected [..., {self.low.shape[0]}]")
        return self.low, self.width

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def keep_dtype(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        module: Self = super()._apply(keep_dtype, recurse)  # type: ignore[no-untyped-call]
        return module


def _note_loaded(module: nn.Module, _: Any) -> None:
    # a copy into meta buffers loads nothing; a tokenizer that was never fitted saves NaN
    assert isinstance(module, Bins)
    module.fitted = not module.width.is_meta and bool(torch.isfinite(module.width).all())
