"""Splines through a few knots, as matrices from knots to steps."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from tdm_agents.errors import WrongValueError

Spline = Literal["zero", "linear", "cubic"]
"""Piecewise constant, straight lines, or cubic Hermite pieces with a continuous first derivative."""


def knot_steps(horizon: int, knots: int, spline: Spline) -> Tensor:
    """The steps at which the knots lie, ``[knots]`` float64.

    They are evenly spaced from the first step to the last. A constant piece begins at its knot instead, so
    that all pieces have the same length. A single knot lies at step 0 and determines all steps.
    """
    pieces = knots if spline == "zero" else max(knots - 1, 1)
    last = horizon if spline == "zero" else horizon - 1
    return torch.arange(knots, dtype=torch.float64, device="cpu") * (last / pieces)


def spline_matrix(horizon: int, knots: int, spline: Spline) -> Tensor:
    """The matrix ``[H, knots]``, float64, that maps the values at the knots to those at every step.

    Rows sum to 1, so a constant stays a constant; a step with a knot on it has that knot's value. The cubic's
    slopes are finite differences over both neighbours, or over one at the ends, as in MuJoCo MPC (Howell et
    al. 2022, "Predictive Sampling", arXiv:2212.00541; ``mjpc/spline/spline.cc``).

    Args:
        horizon: ``H``, at least 1.
        knots: Number of knots, from 1 to ``H``.
        spline: Interpolation between the knots.

    Raises:
        ValueError: If the numbers or the name make no sense.
    """
    if not 1 <= knots <= horizon:
        raise WrongValueError(
            f"knots is {knots}; expected at least 1 and at most the horizon, which is {horizon}"
        )
    if spline not in get_args(Spline):
        raise WrongValueError(f"spline is {spline!r}; expected one of {', '.join(get_args(Spline))}")
    identity = torch.eye(knots, dtype=torch.float64, device="cpu")
    if knots == 1:
        return identity.expand(horizon, 1).clone()
    at = knot_steps(horizon, knots, spline)
    steps = torch.arange(horizon, dtype=torch.float64, device="cpu")
    if spline == "zero":
        return identity[torch.searchsorted(at, steps, right=True) - 1]
    left = (torch.searchsorted(at, steps, right=True) - 1).clamp_max(knots - 2)
    t = ((steps - at[left]) / at[1])[:, None]  # place within the piece, 0 to 1
    if spline == "linear":
        return (1.0 - t) * identity[left] + t * identity[left + 1]
    slope = torch.gradient(identity, dim=0)[0]  # per piece
    return (
        (2.0 * t**3 - 3.0 * t**2 + 1.0) * identity[left]
        + (t**3 - 2.0 * t**2 + t) * slope[left]
        + (3.0 * t**2 - 2.0 * t**3) * identity[left + 1]
        + (t**3 - t**2) * slope[left + 1]
    )
