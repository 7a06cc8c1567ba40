"""What people call the scalars of a flat observation: ``car[2]``, the third number under the key ``car``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from tdm_agents.spaces.leaves import shape_of


def scalar_labels(space: spaces.Space[Any], names: Sequence[str] = ()) -> tuple[str, ...]:
    """What to call the scalars of a flat observation: their names, or else what their space says.

    Keys of a ``Dict`` and indices of a ``Tuple`` are joined by dots, indices into an array follow in
    brackets, and the category of a one-hot scalar follows ``=``: ``car[2]``, ``arm.angle``, ``gear=1``. The
    scalars of a plain array are numbers.

    Args:
        space: The observation space.
        names: The environment's own names (:func:`observation_names`); empty where it has none.
    """
    return tuple(names) or tuple(_labels(space, ""))


def _labels(space: spaces.Space[Any], prefix: str) -> list[str]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        children = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        dot = f"{prefix}." if prefix else ""
        return [label for key, child in children for label in _labels(child, f"{dot}{key}")]
    shape = shape_of(space)
    if not shape:
        cells = [prefix]
    elif not prefix and len(shape) == 1:
        cells = [str(i) for i in range(shape[0])]
    else:
        cells = [f"{prefix}[{', '.join(map(str, index))}]" for index in np.ndindex(shape)]
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        first = np.asarray(space.start).ravel()
        count = np.asarray(space.n if isinstance(space, spaces.Discrete) else space.nvec).ravel()
        return [
            f"{cell}={start + i}"
            for cell, start, many in zip(cells, first, count, strict=True)
            for i in range(many)
        ]
    return cells
