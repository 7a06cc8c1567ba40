"""Noise for action sequences, correlated over time.

Noise is independent over candidates and action scalars. Every noise function returns ``[..., H, m]`` of zero
mean, drawn from one explicit generator on the generator's device. White, coloured and AR(1) noise have unit
variance at every step, so that a planner's standard deviation means the same with each of them; a Brownian
walk's variance grows with time, and a spline's is 1 at its knots and less between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from tdm_agents.errors import WrongValueError
from tdm_planners.splines import Spline, spline_matrix


def white_noise(
    shape: Sequence[int], *, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Independent standard normal draws of ``shape``."""
    return torch.randn(tuple(shape), generator=generator, device=generator.device, dtype=dtype)


def brownian_walk(
    shape: Sequence[int], *, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Tensor:
    """A walk from 0 with standard normal increments: the value after ``t + 1`` increments at step ``t``.

    Its standard deviation at step ``t`` is ``sqrt(t + 1)``; scale it for larger or smaller increments.

    Args:
        shape: ``(..., H, m)``.
        generator: Source of the draws.
        dtype: Floating dtype.
    """
    return white_noise(shape, generator=generator, dtype=dtype).cumsum(dim=-2)


def ar1_noise(
    shape: Sequence[int], *, alpha: float, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Stationary first-order autoregressive noise: ``x_t = alpha x_{t-1} + sqrt(1 - alpha^2) e_t``.

    It starts in its stationary distribution (``x_0 = e_0``), so every step has unit variance, and steps at a
    distance of ``d`` have correlation ``alpha^d``.

    Args:
        shape: ``(..., H, m)``.
        alpha: Correlation of neighbouring steps, in [0, 1); 0 is white.
        generator: Source of the draws.
        dtype: Floating dtype.

    Raises:
        ValueError: If ``alpha`` is outside [0, 1).
    """
    if not 0.0 <= alpha < 1.0:
        raise WrongValueError(
            f"alpha is {alpha}; expected 0 (white) <= alpha < 1 (constant over the horizon)"
        )
    draws = white_noise(shape, generator=generator, dtype=dtype)
    steps = torch.arange(draws.shape[-2], device=draws.device)
    lag = steps[:, None] - steps[None, :]
    # the recursion is linear in its draws, so the whole horizon is one product with its impulse response
    response = torch.where(lag >= 0, torch.pow(alpha, lag.clamp_min(0).to(dtype)), 0.0)  # [H, H]
    response[:, 1:] *= math.sqrt(1.0 - alpha * alpha)
    return response @ draws


def coloured_noise(
    shape: Sequence[int], *, beta: float, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Gaussian noise with power spectral density ``f^-beta``, of unit variance at every step.

    Timmer and Koenig, "On generating power law noise", Astronomy and Astrophysics 300 (1995): the Fourier
    coefficients are independent normal draws scaled by ``f^(-beta / 2)``. The zero frequency takes the
    scale of the lowest other one, ``1 / H``, as in iCEM (Pinneri et al. 2020, arXiv:2008.06389). The sequence
    is one period of a periodic signal, so its two ends are correlated.

    Args:
        shape: ``(..., H, m)``.
        beta: Exponent: 0 is white, 1 pink, 2 Brownian.
        generator: Source of the draws.
        dtype: Floating dtype.

    Raises:
        ValueError: If ``beta`` is negative or not finite.
    """
    if not (math.isfinite(beta) and beta >= 0.0):
        raise WrongValueError(
            f"beta is {beta}; expected a finite number of at least 0 (0 white, 1 pink, 2 Brownian)"
        )
    *lead, horizon, width = shape
    frequency = torch.fft.rfftfreq(horizon, device=generator.device, dtype=dtype).clamp_min(1.0 / horizon)
    scale = frequency.pow(-beta / 2.0)  # [F]
    mirrored = torch.full_like(scale, 2.0)  # interior coefficients count for f and -f
    mirrored[0] = 1.0
    if horizon % 2 == 0:
        mirrored[-1] = 1.0
    scale = scale / (mirrored * scale.square()).sum().sqrt() * horizon
    parts = white_noise((2, *lead, scale.numel(), width), generator=generator, dtype=dtype)
    # a complex coefficient splits its variance between its parts; the unmirrored ones are real
    paired = (mirrored == 2.0)[:, None]
    real = torch.where(paired, parts[0] * math.sqrt(0.5), parts[0])
    imaginary = torch.where(paired, parts[1] * math.sqrt(0.5), 0.0)
    spectrum = torch.complex(real, imaginary) * scale[:, None]
    noise: Tensor = torch.fft.irfft(spectrum, n=horizon, dim=-2)
    return noise


def spline_noise(
    shape: Sequence[int],
    *,
    knots: int,
    spline: Spline,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A spline through independent standard normal draws at evenly spaced knots.

    A few knots make smooth sequences with far fewer numbers to search than one per action, as in MuJoCo MPC
    (Howell et al. 2022, arXiv:2212.00541). The variance between the knots is the sum of squares of a row of
    :func:`~tdm_planners.splines.spline_matrix`: at least 1/2.

    Args:
        shape: ``(..., H, m)``.
        knots: Number of knots, from 1 (a constant) to ``H`` (white noise).
        spline: Interpolation between the knots.
        generator: Source of the draws.
        dtype: Floating dtype.

    Raises:
        ValueError: If there are more knots than steps, or a setting makes no sense.
    """
    *lead, horizon, width = shape
    matrix = spline_matrix(horizon, knots, spline).to(generator.device, dtype)
    return matrix @ white_noise((*lead, knots, width), generator=generator, dtype=dtype)


@dataclass(frozen=True, kw_only=True)
class NoiseSettings:
    """Settings of the correlation of a planner's noise over time; the planner sets its scale.

    Attributes:
        noise_beta: If given, at least 0: coloured noise of power spectral density ``f^-noise_beta``.
        noise_knots: If given, from 1 to the horizon: splines through that many knots over it.
        noise_spline: Interpolation between the knots: ``"zero"`` (constant pieces), ``"linear"``,
            ``"cubic"``.
    """

    noise_beta: float | None = None
    noise_knots: int | None = None
    noise_spline: Spline = "cubic"

    def noise(self, shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """Noise of ``shape`` ``(..., H, m)``."""
        if self.noise_knots is not None:
            return spline_noise(
                shape, knots=self.noise_knots, spline=self.noise_spline, generator=generator, dtype=dtype
            )
        if self.noise_beta is not None:
            return coloured_noise(shape, beta=self.noise_beta, generator=generator, dtype=dtype)
        return self.plain_noise(shape, generator, dtype)

    def plain_noise(self, shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """The noise where neither ``noise_beta`` nor ``noise_knots`` is given: white noise."""
        return white_noise(shape, generator=generator, dtype=dtype)

    def check_noise(self, horizon: int) -> None:
        """Refuse settings that make no sense over ``horizon`` decisions.

        Raises:
            ValueError: If ``noise_beta`` is negative or not a number, there are no knots or more than
                decisions, or both are given.
        """
        if self.noise_beta is not None and not self.noise_beta >= 0.0:
            raise WrongValueError(f"noise_beta is {self.noise_beta}; expected at least 0")
        if self.noise_spline not in get_args(Spline):
            raise WrongValueError(
                f"noise_spline is {self.noise_spline!r}; expected one of {', '.join(get_args(Spline))}"
            )
        if self.noise_knots is None:
            return
        if self.noise_beta is not None:
            raise WrongValueError(
                f"noise_beta is {self.noise_beta} and noise_knots {self.noise_knots}; expected one of them"
            )
        if not 1 <= self.noise_knots <= horizon:
            raise WrongValueError(
                f"noise_knots is {self.noise_knots}; expected at least 1 and at most the horizon, "
                f"which is {horizon}"
            )


@dataclass(frozen=True, kw_only=True)
class AR1NoiseSettings(NoiseSettings):
    """Settings of AR(1) noise, unless it is coloured or a spline.

    Attributes:
        noise_alpha: Correlation of neighbouring steps, in [0, 1); 0 is white.
    """

    noise_alpha: float = 0.7

    def plain_noise(self, shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """AR(1) noise."""
        return ar1_noise(shape, alpha=self.noise_alpha, generator=generator, dtype=dtype)

    def check_noise(self, horizon: int) -> None:
        """Also refuse a ``noise_alpha`` that makes no sense.

        Raises:
            ValueError: As in :meth:`NoiseSettings.check_noise`, or if ``noise_alpha`` is not in [0, 1).
        """
        if not 0.0 <= self.noise_alpha < 1.0:
            raise WrongValueError(f"noise_alpha is {self.noise_alpha}; expected 0 (white) <= noise_alpha < 1")
        super().check_noise(horizon)
