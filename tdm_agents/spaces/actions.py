"""Codecs between actions of the environment's space and those that models and planners see.

A ``Box`` is scaled from its bounds to [-1, 1]; a ``Discrete`` or ``MultiDiscrete`` becomes int64 components
counted from 0, whatever the space's own ``start``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from tdm_agents.errors import WrongValueError
from tdm_agents.spaces.leaves import shape_of

MAX_CHOICES = 2**15
"""The most choices of one component of an action."""


def action_codec(space: spaces.Space[Any]) -> ActionCodec | DiscreteActionCodec:
    """The codec of an action space.

    Raises:
        ValueError: For a space that cannot be planned over, with the reason and the remedy.
    """
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return DiscreteActionCodec(space)
    if isinstance(space, spaces.Box):
        return ActionCodec(space)
    remedy = "wrap the environment so that its actions are one of these"
    if isinstance(space, spaces.Dict | spaces.Tuple):
        remedy = (
            "candidates of mixed kinds cannot be searched together: merge the parts into one Box or one "
            "MultiDiscrete with gymnasium.wrappers.TransformAction"
        )
    elif isinstance(space, spaces.MultiBinary):
        remedy = "use MultiDiscrete([2] * n), which has the same choices, with TransformAction"
    raise WrongValueError(
        f"action_space {space} cannot be planned over: expected a Box with finite bounds, Discrete or "
        f"MultiDiscrete; {remedy}"
    )


class ActionCodec:
    """Codec between actions of a ``Box`` and [-1, 1].

    Args:
        space: A ``Box`` of any shape with finite bounds.

    Raises:
        ValueError: For a space that cannot be planned over, with the reason and the remedy.

    Attributes:
        dim: ``m``, scalars of an action.
        low: ``[m]`` float64, the space's bounds.
        high: ``[m]`` float64.
        whole: Whether the space is of integers or booleans.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        if not isinstance(space, spaces.Box):
            raise WrongValueError(
                f"action_space {space} is not continuous: expected a Box with finite bounds; wrap the "
                "environment so that its actions are a Box"
            )
        self.low = space.low.astype(np.float64).ravel()
        self.high = space.high.astype(np.float64).ravel()
        if not (np.isfinite(self.low).all() and np.isfinite(self.high).all()):
            raise WrongValueError(
                f"action_space {space} has infinite bounds, so there is nothing to sample from; "
                "bound it, as by gymnasium.wrappers.TransformAction(env, lambda a: a, Box(low, high)), and "
                "leave ClipAction off, which hides bounds"
            )
        if not self.low.size or not (self.low < self.high).all():
            raise WrongValueError(
                f"action_space {space} has nothing to choose, or a component whose low is not below its "
                "high; leave constant components out with gymnasium.wrappers.TransformAction"
            )
        self.space = space
        self.dim = int(self.low.size)
        self.whole = np.dtype(space.dtype).kind in "biu"
        # middle + half * a, not low + half * (a + 1): exact where the bounds are [-1, 1]
        self._middle = 0.5 * self.high + 0.5 * self.low
        self._half = 0.5 * self.high - 0.5 * self.low  # half of the difference could overflow

    def decode(self, action: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn ``[..., m]`` in [-1, 1] into the space's units, shape and dtype, always inside the bounds.

        Spaces of integers get the nearest one, spaces of booleans False up to the middle.

        Raises:
            ValueError: If the last axis is not ``m``.
        """
        array = np.asarray(action, np.float64)
        if array.shape[-1:] != (self.dim,):
            raise ValueError(f"action has shape {array.shape}; expected [..., {self.dim}]")
        scaled = np.clip(self._middle + self._half * array, self.low, self.high)
        shape = array.shape[:-1] + self.space.shape
        if not self.whole:
            # rounding to the space's dtype is monotone and its bounds are of that dtype: it stays inside them
            decoded: npt.NDArray[Any] = scaled.reshape(shape).astype(self.space.dtype)
            return decoded
        whole = np.rint(scaled).reshape(shape)
        bounds = self.space.low.astype(np.float64), self.space.high.astype(np.float64)
        # bounds of 64 bits have no float64 of their own, and a cast of the nearest may overflow
        inside = (whole > bounds[0]) & (whole < bounds[1])
        ends = np.where(whole <= bounds[0], self.space.low, self.space.high)
        return np.where(inside, np.where(inside, whole, 0.0).astype(self.space.dtype), ends)

    def encode(self, action: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Turn ``[..., *shape]`` in the space's units into ``[..., m]`` float32, clipped to [-1, 1].

        Raises:
            ValueError: If the last axes are not the space's shape.
        """
        array = np.asarray(action, np.float64)
        lead = array.ndim - len(self.space.shape)
        if lead < 0 or array.shape[lead:] != self.space.shape:
            expected = ", ".join(["...", *map(str, self.space.shape)])
            raise ValueError(f"action has shape {array.shape}; expected [{expected}]")
        flat = array.reshape((*array.shape[:lead], self.dim))
        scaled = (flat - self._middle) / self._half
        encoded: npt.NDArray[np.float32] = np.clip(scaled, -1.0, 1.0).astype(np.float32)
        return encoded


class DiscreteActionCodec:
    """Codec between actions of a ``Discrete`` or ``MultiDiscrete`` and int64 components counted from 0.

    Args:
        space: The environment's action space; a ``MultiDiscrete`` may have any shape and is read in C order.

    Raises:
        ValueError: For any other space, or one with nothing to choose.

    Attributes:
        space: The space.
        dim: ``m``, components of an action.
        choices: Number of choices of each component; :attr:`tdm_agents.protocols.ModelSpec.action_choices`.
        shape: Shape of one action; ``()`` for ``Discrete``.
        start: ``[m]`` int64, the space's own number of choice 0 of each component.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
            raise WrongValueError(f"action_space {space} is not discrete: expected Discrete or MultiDiscrete")
        self.space = space
        counts = np.asarray(space.n if isinstance(space, spaces.Discrete) else space.nvec, np.int64)
        self.choices: tuple[int, ...] = tuple(counts.ravel().tolist())
        self.dim = len(self.choices)
        if not self.dim or max(self.choices) < 2:
            raise WrongValueError(
                f"action_space {space} has nothing to choose; expected a component with two choices or more"
            )
        if max(self.choices) > MAX_CHOICES:
            raise WrongValueError(
                f"action_space {space} has a component of {max(self.choices)} choices, each of which has a "
                f"probability of its own; expected at most {MAX_CHOICES}: split it into components of a "
                "MultiDiscrete, or make it a Box, with gymnasium.wrappers.TransformAction"
            )
        self.shape = shape_of(space)
        self.start = np.asarray(space.start, np.int64).ravel()

    def decode(self, action: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn ``[..., m]`` int64 into ``[..., *shape]`` in the space's dtype; ``Discrete`` has shape ``()``.

        Raises:
            ValueError: If the last axis is not ``m``, or a component is none of its choices.
        """
        array = np.asarray(action)
        if array.shape[-1:] != (self.dim,):
            raise ValueError(f"action has shape {array.shape}; expected [..., {self.dim}]")
        self._check(array, array)
        decoded: npt.NDArray[Any] = (
            (array + self.start).astype(self.space.dtype).reshape(array.shape[:-1] + self.shape)
        )
        return decoded

    def encode(self, action: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Turn ``[..., *shape]`` of the space into ``[..., m]`` int64.

        Raises:
            ValueError: If the last axes are not the space's shape, or a component is none of its choices.
        """
        array = np.asarray(action)
        lead = array.ndim - len(self.shape)
        if lead < 0 or array.shape[lead:] != self.shape:
            expected = ", ".join(["...", *map(str, self.shape)])
            raise ValueError(f"action has shape {array.shape}; expected [{expected}]")
        flat = array.reshape((*array.shape[:lead], self.dim))
        if np.issubdtype(flat.dtype, np.integer):
            flat = flat.astype(np.int64)  # uint64 less int64 would be float64
        self._check(flat - self.start, flat)
        encoded: npt.NDArray[np.int64] = (flat - self.start).astype(np.int64)
        return encoded

    def _check(self, index: npt.NDArray[Any], shown: npt.NDArray[Any]) -> None:
        integers = np.issubdtype(index.dtype, np.integer)
        if integers and bool(((index >= 0) & (index < np.asarray(self.choices))).all()):
            return
        raise WrongValueError(
            f"action {shown.tolist()} ({shown.dtype}) is none of the choices of {self.space}; expected "
            f"integers, {', '.join(map(str, self.choices[:8]))} choices per component"
        )
