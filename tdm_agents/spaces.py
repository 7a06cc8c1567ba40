"""Gymnasium spaces and the flat vectors that models see.

Observations become one float32 vector: leaves in the order in which Gymnasium's own ``flatten`` visits them
(``Dict`` by its key order, ``Tuple`` by index, arrays in C order). Continuous actions are scaled from the
``Box`` bounds to [-1, 1].
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

FloatArray = npt.NDArray[np.float32]


class ObservationCodec:
    """Observations of a space to and from flat float32 vectors.

    Args:
        space: A ``Box``, or a ``Dict`` or ``Tuple`` of such, nested as deep as you like.

    Raises:
        ValueError: For a space that cannot be planned over, with the reason and the remedy.

    Attributes:
        dim: ``n``, scalars of the flat vector.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        _refuse_unplannable(space, "observation_space")
        self.space = space
        self.dim = int(spaces.flatdim(space))
        if not self.dim:
            raise ValueError(f"observation_space {space} has no scalars; expected at least one to model")

    def flatten(self, observation: Any) -> FloatArray:
        """One observation to ``[n]`` float32.

        Raises:
            ValueError: If its structure, shape or a value (NaN, inf) is not of the space.
        """
        try:
            leaves = _leaves(self.space, observation, "observation")
        except (TypeError, KeyError, IndexError) as error:
            raise ValueError(f"observation {_short(observation)} is not of the space {self.space}") from error
        flat: FloatArray = np.concatenate(leaves, dtype=np.float32, casting="same_kind")
        if not np.isfinite(flat).all():
            bad = int(np.flatnonzero(~np.isfinite(flat))[0])
            raise ValueError(
                f"observation scalar {bad} is {flat[bad]}; a model cannot read NaN or inf: "
                "check the environment's physics, or reset it"
            )
        return flat

    def unflatten(self, flat: FloatArray) -> Any:
        """``[n]`` back to an observation of the space."""
        return spaces.unflatten(self.space, flat)


class ActionCodec:
    """Actions of a ``Box`` to and from [-1, 1].

    Args:
        space: A ``Box`` of any shape with finite bounds.

    Raises:
        ValueError: For a space that cannot be planned over, with the reason and the remedy.

    Attributes:
        dim: ``m``, scalars of an action.
        low: ``[m]`` float64, the space's bounds.
        high: ``[m]`` float64.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        if not isinstance(space, spaces.Box):
            raise ValueError(
                f"action_space {space} cannot be planned over yet: expected a Box with finite bounds; "
                "wrap the environment so that its actions are a Box"
            )
        self.low = space.low.astype(np.float64).ravel()
        self.high = space.high.astype(np.float64).ravel()
        if not (np.isfinite(self.low).all() and np.isfinite(self.high).all()):
            raise ValueError(
                f"action_space {space} has infinite bounds, so there is nothing to sample from; "
                "bound it with gymnasium.wrappers.RescaleAction or ClipAction"
            )
        if not self.low.size or not (self.low < self.high).all():
            raise ValueError(
                f"action_space {space} has nothing to choose, or a component whose low is not below its "
                "high; leave constant components out with gymnasium.wrappers.TransformAction"
            )
        self.space = space
        self.dim = int(self.low.size)
        # middle + half * a, not low + half * (a + 1): exact where the bounds are [-1, 1]
        self._middle = 0.5 * self.high + 0.5 * self.low
        self._half = 0.5 * self.high - 0.5 * self.low  # of the difference it could overflow

    def decode(self, action: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """``[..., m]`` in [-1, 1] to the space's units, shape and dtype, always inside the bounds.

        Integer spaces get the nearest integer.

        Raises:
            ValueError: If the last axis is not ``m``.
        """
        array = np.asarray(action, np.float64)
        if array.shape[-1:] != (self.dim,):
            raise ValueError(f"action has shape {array.shape}; expected [..., {self.dim}]")
        scaled = np.clip(self._middle + self._half * array, self.low, self.high)
        if np.issubdtype(self.space.dtype, np.integer):
            scaled = np.rint(scaled)
        # rounding to the space's dtype is monotone and its bounds are of that dtype, so it stays inside them
        shaped = scaled.reshape(array.shape[:-1] + self.space.shape)
        decoded: npt.NDArray[Any] = shaped.astype(self.space.dtype)
        return decoded

    def encode(self, action: npt.NDArray[Any]) -> FloatArray:
        """``[..., *shape]`` in the space's units to ``[..., m]`` float32, clipped to [-1, 1].

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
        encoded: FloatArray = np.clip(scaled, -1.0, 1.0).astype(np.float32)
        return encoded


def _refuse_unplannable(space: spaces.Space[Any], where: str) -> None:
    if isinstance(space, spaces.Dict):
        for key, child in space.spaces.items():
            _refuse_unplannable(child, f"{where}[{key!r}]")
    elif isinstance(space, spaces.Tuple):
        for index, child in enumerate(space.spaces):
            _refuse_unplannable(child, f"{where}[{index}]")
    elif not isinstance(space, spaces.Box):
        raise ValueError(f"{where} {space} cannot be planned over yet: expected Box, or Dict or Tuple of Box")
    elif space.dtype == np.uint8 and len(space.shape) >= 2:
        raise ValueError(
            f"{where} {space} looks like images, which scalar tokens cannot model; "
            "give the agent the environment's state instead"
        )


def _leaves(space: spaces.Space[Any], value: Any, where: str) -> list[npt.NDArray[np.float64]]:
    if isinstance(space, spaces.Dict):
        missing = [k for k in space.spaces if k not in value]
        if missing:
            raise ValueError(f"{where} lacks the key {missing[0]!r}; expected {list(space.spaces)}")
        return [leaf for k, s in space.spaces.items() for leaf in _leaves(s, value[k], f"{where}[{k!r}]")]
    if isinstance(space, spaces.Tuple):
        if len(value) != len(space.spaces):
            raise ValueError(f"{where} has {len(value)} parts; expected {len(space.spaces)}")
        pairs = enumerate(zip(space.spaces, value, strict=True))
        return [leaf for i, (s, v) in pairs for leaf in _leaves(s, v, f"{where}[{i}]")]
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} is {_short(value)}; expected numbers of shape {space.shape}") from error
    if array.shape != space.shape:
        raise ValueError(f"{where} has shape {array.shape}; the space says {space.shape}")
    return [array.ravel()]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def difference(ours: spaces.Space[Any], theirs: spaces.Space[Any], where: str) -> str | None:
    """What makes ``theirs`` unfit for a model of ``ours``; None where nothing does.

    The dtype of observations does not count: models read float32.
    """
    if isinstance(ours, spaces.Dict) and isinstance(theirs, spaces.Dict):
        if list(ours.spaces) != list(theirs.spaces):
            return f"{where} of the environment has the keys {list(theirs)}; the model's has {list(ours)}"
        pairs = [(f"{where}[{key!r}]", ours[key], theirs[key]) for key in ours.spaces]
    elif isinstance(ours, spaces.Tuple) and isinstance(theirs, spaces.Tuple):
        if len(ours.spaces) != len(theirs.spaces):
            return f"{where} of the environment has {len(theirs)} parts; the model's has {len(ours)}"
        pairs = [(f"{where}[{i}]", ours[i], theirs[i]) for i in range(len(ours))]
    elif isinstance(ours, spaces.Box) and isinstance(theirs, spaces.Box):
        same = (
            ours.shape == theirs.shape
            and np.allclose(ours.low, theirs.low)
            and np.allclose(ours.high, theirs.high)
        )
        return None if same else f"{where} of the environment is {theirs}; the model's is {ours}"
    else:
        return None if ours == theirs else f"{where} of the environment is {theirs}; the model's is {ours}"
    return next((d for name, a, b in pairs if (d := difference(a, b, name))), None)
