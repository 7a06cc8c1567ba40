"""Colours of values: dark blue is the worst future that is shown, yellow the best."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_ANCHORS = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], np.float64)
"""Five colours of viridis, which is even in lightness and told apart by the colour-blind."""
CHOSEN = (255, 87, 34)
"""The colour of the chosen plan, which viridis does not hold."""


def value_colors(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Colours ``[S, 3]`` of values ``[S]``, from the lowest to the highest; NaN is as the lowest."""
    known = np.asarray(values, np.float64)
    finite = known[np.isfinite(known)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    share = np.zeros(len(known)) if high <= low else (known - low) / (high - low)
    place = np.clip(np.nan_to_num(share, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0) * (len(_ANCHORS) - 1)
    below = np.minimum(place.astype(np.int64), len(_ANCHORS) - 2)
    part = (place - below)[:, None]
    mixed = (1 - part) * _ANCHORS[below] + part * _ANCHORS[below + 1]
    colors: npt.NDArray[np.uint8] = mixed.astype(np.uint8)
    return colors
