"""Packing of windows of environments of different sizes into one flat sequence of tokens.

Everything in a transformer except attention is per token, so tokens of different windows can follow each
other. A flat sequence holds the position of each token in its step, and of that step in its window. Attention
is computed for one band after another
(:func:`~tdm_agents.world_models.transformer.attention.packed_attention`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tdm_agents.world_models.transformer.layout import StepLayout


@dataclass(frozen=True, slots=True, order=True)
class Band:
    """Neighbouring windows of a flat sequence with the same attention pattern.

    Attributes:
        step_tokens: Tokens per decision step.
        steps: ``T``, the steps per window.
        context_steps: Number of steps that a token sees, its own included.
        windows: Number of windows.
        whole: Whether the tokens of a step see each other.
    """

    step_tokens: int
    steps: int
    context_steps: int
    windows: int
    whole: bool = False

    @property
    def window_tokens(self) -> int:
        """Tokens of each window."""
        return self.steps * self.step_tokens

    @property
    def tokens(self) -> int:
        """Tokens of all windows."""
        return self.windows * self.window_tokens


@dataclass(frozen=True, slots=True)
class Windows:
    """Tokens of one environment's windows, before they are packed.

    Attributes:
        tokens: ``[B, T, n + m + 2]`` int64.
        layout: Layout of the environment's steps.
        context_steps: Number of steps that a token sees, its own included.
    """

    tokens: Tensor
    layout: StepLayout
    context_steps: int

    @property
    def band(self) -> Band:
        """The band that these windows form."""
        windows, steps, step_tokens = self.tokens.shape
        return Band(step_tokens, steps, self.context_steps, windows, self.layout.whole)


@dataclass(frozen=True, slots=True)
class Padding:
    """The places of tokens where all windows have one length, with padding at their ends.

    Attention of all bands is then one operation. That is more arithmetic and fewer operations: right for a
    GPU, which waits for small ones.

    Attributes:
        place: ``[S]`` int64, the place of each token in the ``B * length`` of all windows.
        context_steps: ``[B]`` int64, number of steps that a token of each window sees, its own included.
        windows: ``B``.
        length: Tokens per window, a multiple of 8.
        fits: Whether no window is longer than its context.
    """

    place: Tensor
    context_steps: Tensor
    windows: int
    length: int
    fits: bool

    @classmethod
    def of(cls, bands: Sequence[Band], device: torch.device) -> Padding:
        """The padding of bands that follow each other."""
        length = -(-max(band.window_tokens for band in bands) // 8) * 8
        places, contexts, first = [], [], 0
        for band in bands:
            window = torch.arange(first, first + band.windows, device=device)
            places.append(
                (length * window[:, None] + torch.arange(band.window_tokens, device=device)).flatten()
            )
            contexts.append(torch.full_like(window, band.context_steps))
            first += band.windows
        fits = all(band.steps <= band.context_steps for band in bands)
        return cls(torch.cat(places), torch.cat(contexts), first, length, fits)


@dataclass(frozen=True, slots=True)
class Packed:
    """A flat sequence of ``S`` tokens of many windows.

    Attributes:
        tokens: ``[S]`` int64.
        positions: ``[S]`` int64, the position of each token in its decision step.
        steps: ``[S]`` int64, the step of each token in its window, from 0.
        bands: The bands in order, which cover all ``S`` tokens.
        padding: Where tokens go for attention, if windows are padded there.
    """

    tokens: Tensor
    positions: Tensor
    steps: Tensor
    bands: tuple[Band, ...]
    padding: Padding | None = None

    def to(self, device: torch.device | str) -> Packed:
        """The same on another device."""
        padding = self.padding
        if padding is not None:
            padding = replace(
                padding,
                place=padding.place.to(device),
                context_steps=padding.context_steps.to(device),
            )
        return Packed(
            self.tokens.to(device), self.positions.to(device), self.steps.to(device), self.bands, padding
        )


def pack(several: Sequence[Windows], *, pads: bool = False) -> Packed:
    """The flat sequence of windows of one or more environments, in the order given.

    Neighbours with the same attention pattern become one band, so it pays to sort by :attr:`Windows.band`.

    Args:
        several: At least one, all on one device.
        pads: Whether attention pads windows to one length; see :class:`Padding`.
    """
    device = several[0].tokens.device
    positions, steps = [], []
    bands: list[Band] = []
    for windows in several:
        band = windows.band
        count = band.windows * band.steps
        positions.append(windows.layout.positions(device).repeat(count))
        step = torch.arange(band.steps, device=device).repeat_interleave(band.step_tokens)
        steps.append(step.repeat(band.windows))
        if bands and replace(bands[-1], windows=band.windows) == band:
            bands[-1] = replace(band, windows=bands[-1].windows + band.windows)
        else:
            bands.append(band)
    return Packed(
        tokens=torch.cat([windows.tokens.flatten() for windows in several]),
        positions=torch.cat(positions),
        steps=torch.cat(steps),
        bands=tuple(bands),
        padding=Padding.of(bands, device) if pads else None,
    )
