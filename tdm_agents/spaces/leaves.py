"""Codec between the leaves of an observation space (spaces that hold no others) and flat scalars.

The order is that of Gymnasium's own ``flatten``: arrays in C order; a ``Discrete`` of ``n`` values is ``n``
scalars of which one is 1 (one-hot, counted from its ``start``), a ``MultiDiscrete`` is the one-hots of its
components one after the other, and a ``MultiBinary`` is its bits. Categories are one-hot because the
distance between their numbers means nothing.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from tdm_agents.errors import WrongValueError

Leaf = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary


def is_leaf(space: spaces.Space[Any]) -> TypeGuard[Leaf]:
    """Whether this module flattens a space."""
    return isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary)


def shape_of(space: spaces.Space[Any]) -> tuple[int, ...]:
    """The shape of one value; ``()`` where Gymnasium has None."""
    return tuple(space.shape or ())


def encode_leaf(space: Leaf, array: npt.NDArray[Any], where: str = "observation") -> npt.NDArray[Any]:
    """Turn ``[..., *space.shape]`` into ``[..., k]`` float64, ``k`` scalars per observation; bytes stay so.

    Args:
        space: The space of the observations in ``array``.
        array: One or more observations as numbers; leading axes are kept.
        where: Name of the array in error messages.

    Raises:
        ValueError: If the last axes are not the space's, or a category does not exist.
    """
    shape = shape_of(space)
    lead = array.ndim - len(shape)
    if lead < 0 or array.shape[lead:] != shape:
        raise WrongValueError(f"{where} has shape {array.shape}; the space says {shape}")
    flat = array.reshape(*array.shape[:lead], int(np.prod(shape, dtype=int)))
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        return flat if flat.dtype == np.uint8 else flat.astype(np.float64)
    start, counts = _categories(space)
    index = flat - start
    bad = (index < 0) | (index >= counts) | (index != np.rint(index))  # NaN is none of them, so it is 'bad'
    bad |= ~np.isfinite(flat.astype(np.float64))
    if bad.any():
        first = tuple(np.argwhere(bad)[0])
        low, count = start[first[-1]], counts[first[-1]]
        raise WrongValueError(
            f"{where} holds the category {flat[first]}; {space} has the integers {low} to {low + count - 1}"
        )
    # the component's block begins where the blocks of those before it end
    ones = (index + (np.cumsum(counts) - counts)).astype(np.int64)
    one_hot = np.zeros((*index.shape[:-1], int(counts.sum())))
    np.put_along_axis(one_hot, ones, 1.0, axis=-1)
    return one_hot


def decode_leaf(space: Leaf, flat: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Turn ``[..., k]`` back into ``[..., *space.shape]``: categories and bits in the space's dtype.

    The category is the largest scalar and a bit is 1 from 0.5 on, so that any imagined vector can be decoded.
    ``Box`` leaves keep the dtype of ``flat``, so that imagined values are not rounded.
    """
    whole = (*flat.shape[:-1], *shape_of(space))
    if isinstance(space, spaces.Box):
        return flat.reshape(whole)
    if isinstance(space, spaces.MultiBinary):
        return (flat >= 0.5).astype(space.dtype).reshape(whole)
    start, counts = _categories(space)
    parts = np.split(flat, np.cumsum(counts)[:-1], axis=-1)
    index = np.stack([part.argmax(axis=-1) for part in parts], axis=-1) + start
    decoded: npt.NDArray[Any] = index.astype(space.dtype).reshape(whole)
    return decoded


def _categories(
    space: spaces.Discrete | spaces.MultiDiscrete,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First category and number of categories of each component, in C order."""
    count = space.n if isinstance(space, spaces.Discrete) else space.nvec
    return np.asarray(space.start, np.int64).reshape(-1), np.asarray(count, np.int64).reshape(-1)
