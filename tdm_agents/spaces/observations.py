"""Gymnasium spaces and the flat vectors that models see.

Observations become one float32 vector: leaves in the order in which Gymnasium's own ``flatten`` visits them
(``Dict`` by its key order, ``Tuple`` by index, arrays in C order; categories one-hot, see
:mod:`tdm_agents.spaces.leaves`). Continuous actions are scaled from the ``Box`` bounds to [-1, 1]; those of a
``Discrete`` or ``MultiDiscrete`` are int64 components counted from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from tdm_agents.errors import WrongValueError
from tdm_agents.spaces.images import images_of, is_image, looks_like_images
from tdm_agents.spaces.leaves import decode_leaf, encode_leaf, is_leaf, shape_of
from tdm_agents.spaces.scalar_labels import scalar_labels

FloatArray = npt.NDArray[np.float32]

MAX_SCALARS = 2**15
"""The most scalars of a flat observation: every one is modelled, stored and imagined at every step."""

MAX_PIXELS = 2**20
"""The most scalars of images, which only models that read images take."""

_NUMBERS = "biufO"  # kinds of dtypes: NumPy would silently drop imaginary parts and read strings
_NOT_FINITE = "a model cannot read NaN or inf: check the environment's physics, or reset it"


class ObservationCodec:
    """Codec between the observations of a space and flat float32 vectors.

    What ``gymnasium.wrappers.FlattenObservation`` makes of an observation is read as that observation, since
    it has the same order; except of a single ``Discrete``, where it looks like several environments' choices.

    Args:
        space: A ``Box``, ``Discrete``, ``MultiDiscrete`` or ``MultiBinary``, or a ``Dict`` or ``Tuple`` of
            such, nested as deep as you like.
        images: Whether images (:mod:`tdm_agents.spaces.images`) are read.

    Raises:
        ValueError: For a space that cannot be planned over, with the reason and the remedy.

    Attributes:
        space: The space.
        dim: ``n``, scalars of the flat vector.
        dtype: Of the smallest numbers that hold an observation: uint8 where there are only images.
    """

    def __init__(self, space: spaces.Space[Any], *, images: bool = False) -> None:
        _refuse_unplannable(space, "observation_space", images)
        self.space = space
        self.dim = int(spaces.flatdim(space))
        if not self.dim:
            raise WrongValueError(f"observation_space {space} has no scalars; expected at least one to model")
        pixels = sum(image.scalars for image in images_of(space))
        self.dtype = np.dtype(np.uint8 if pixels == self.dim else np.float32)
        if pixels > MAX_PIXELS:
            raise WrongValueError(
                f"observation_space {space} has images of {pixels:,} numbers; expected at most "
                f"{MAX_PIXELS:,}: make them smaller with gymnasium.wrappers.ResizeObservation(env, (64, 64))"
            )
        if self.dim - pixels > MAX_SCALARS:
            raise WrongValueError(
                f"observation_space {space} has {self.dim} scalars (one per choice of a category); expected "
                f"at most {MAX_SCALARS}: observe less, or categories as a Box of features, with "
                "gymnasium.wrappers.TransformObservation"
            )
        self._flat_space: spaces.Space[Any] = spaces.flatten_space(space)

    def flatten(self, observation: Any) -> FloatArray:
        """Turn one observation into ``[n]`` float32.

        Raises:
            ValueError: If its structure, shape or a value (NaN, inf, a category) does not fit the space.
        """
        flat = self._flatten(observation, ())
        if not np.isfinite(flat).all():
            bad = int(np.flatnonzero(~np.isfinite(flat))[0])
            label = scalar_labels(self.space)[bad]
            raise WrongValueError(f"observation scalar {label} is {flat[bad]}; {_NOT_FINITE}")
        return flat

    def flatten_batch(
        self, observations: Any, batch: int, read: npt.NDArray[np.bool_] | None = None
    ) -> FloatArray:
        """Turn observations of ``batch`` environments, stacked as vector environments do, into ``[B, n]``.

        Args:
            observations: The structure of the space with ``[B, *shape]`` arrays as leaves.
            batch: ``B``.
            read: ``[B]``; False for rows that are not read, which become 0 whatever they hold.

        Raises:
            ValueError: If their structure or shape, or a value of a row that is read, does not fit the space.
        """
        flat = self._flatten(observations, (batch,), read)
        if not np.isfinite(flat).all():
            row, bad = np.argwhere(~np.isfinite(flat))[0]
            label = scalar_labels(self.space)[bad]
            raise WrongValueError(
                f"observation scalar {label} of environment {row} is {flat[row, bad]}; {_NOT_FINITE}"
            )
        return flat

    def flatten_rows(self, observation: Any, read: npt.NDArray[np.bool_] | None = None) -> FloatArray:
        """Turn one observation into ``[1, n]``, or a stack into ``[B, n]``; :meth:`batch_of` tells which.

        Args:
            observation: One observation, or those of ``B`` environments.
            read: ``[B]``; see :meth:`flatten_batch`.

        Raises:
            ValueError: If a row that is read does not fit the space.
        """
        batch = self.batch_of(observation)
        if batch is not None:
            return self.flatten_batch(observation, batch, read)
        if read is not None and not read.all():
            return np.zeros((1, self.dim), np.float32)
        return self.flatten(observation)[None]

    def batch_of(self, observation: Any) -> int | None:
        """The number of environments in a stacked observation; None for a single observation.

        The first leaf decides: the observation is a batch if it has one axis more than the space says.

        Raises:
            ValueError: If it is a batch of no environments.
        """
        space = self._flat_space if self._is_flattened(observation) else self.space
        try:
            while isinstance(space, spaces.Dict | spaces.Tuple):
                key: Any = next(iter(space.spaces)) if isinstance(space, spaces.Dict) else 0
                space, observation = space.spaces[key], observation[key]
            shape = np.shape(observation)
        except (TypeError, KeyError, IndexError, ValueError):
            return None  # does not fit the space at all: flatten has the better message
        if len(shape) != len(shape_of(space)) + 1:
            return None
        if not shape[0]:
            raise WrongValueError(
                f"observation has shape {shape}, a batch of 0 environments; expected at least one: pass what "
                "the environment returned"
            )
        return int(shape[0])

    def unflatten(self, flat: FloatArray) -> Any:
        """Turn ``[..., n]`` back into the space's structure; the likeliest category is chosen."""
        structure, _ = _unflatten(self.space, flat, 0)
        return structure

    def _is_flattened(self, observation: Any) -> bool:
        """Whether it is ``[n]`` or ``[B, n]`` of ``FlattenObservation``, and the space says otherwise."""
        if not isinstance(observation, np.ndarray):
            return False
        shape, space = observation.shape, self.space
        flat = len(shape) <= 2 and shape[-1:] == (self.dim,)
        return flat and not (is_leaf(space) and shape_of(space) in (shape, shape[1:]))

    def _flatten(
        self, observation: Any, lead: tuple[int, ...], read: npt.NDArray[np.bool_] | None = None
    ) -> FloatArray:
        space = self._flat_space if self._is_flattened(observation) else self.space
        try:
            leaves = _leaves(space, observation, "observation", lead, read)
        except (TypeError, KeyError, IndexError) as error:
            raise WrongValueError(
                f"observation {_short(observation)} does not fit the space {self.space}"
            ) from error
        flat: FloatArray = np.concatenate(leaves, axis=-1, dtype=np.float32, casting="same_kind")
        return flat


def is_flattened(ours: spaces.Space[Any], theirs: spaces.Space[Any]) -> bool:
    """Whether ``theirs`` is what ``FlattenObservation`` makes of ``ours``, so that an agent can read it."""
    readable = not isinstance(ours, spaces.Discrete)  # see ObservationCodec
    return readable and difference(spaces.flatten_space(ours), theirs, "") is None


def _refuse_unplannable(space: spaces.Space[Any], where: str, images: bool) -> None:
    if isinstance(space, spaces.Dict):
        for key, child in space.spaces.items():
            _refuse_unplannable(child, f"{where}[{key!r}]", images)
    elif isinstance(space, spaces.Tuple):
        for index, child in enumerate(space.spaces):
            _refuse_unplannable(child, f"{where}[{index}]", images)
    elif not is_leaf(space):
        raise WrongValueError(
            f"{where} {space} cannot be planned over: it has no fixed number of scalars; expected Box, "
            "Discrete, MultiDiscrete, MultiBinary, or Dict or Tuple of them: wrap the environment with "
            "gymnasium.wrappers.TransformObservation"
        )
    elif isinstance(space, spaces.Box) and looks_like_images(space):
        if images and is_image(space):
            return
        if images:
            raise WrongValueError(
                f"{where} {space} looks like images, which are read as bytes with 2 to 4 axes; expected "
                "uint8 [H, W], with channels first or last, and with stacked frames in front: convert them "
                "with gymnasium.wrappers.TransformObservation"
            )
        raise WrongValueError(
            f"{where} {space} looks like images, which scalar tokens cannot model; give the agent the "
            "environment's state instead, or learn it with a model that reads images (tdm online)"
        )


def _leaves(
    space: spaces.Space[Any],
    value: Any,
    where: str,
    lead: tuple[int, ...],
    read: npt.NDArray[np.bool_] | None,
) -> list[npt.NDArray[Any]]:
    if isinstance(space, spaces.Dict):
        if not isinstance(value, Mapping):
            found = "an array" if isinstance(value, np.ndarray) else _short(value)
            raise WrongValueError(f"{where} is {found}; expected a dict with the keys {list(space.spaces)}")
        missing = [k for k in space.spaces if k not in value]
        if missing:
            raise WrongValueError(f"{where} lacks the key {missing[0]!r}; expected {list(space.spaces)}")
        named = ((f"{where}[{k!r}]", s, value[k]) for k, s in space.spaces.items())
        return [leaf for name, s, v in named for leaf in _leaves(s, v, name, lead, read)]
    if isinstance(space, spaces.Tuple):
        if len(value) != len(space.spaces):
            raise WrongValueError(f"{where} has {len(value)} parts; expected {len(space.spaces)}")
        pairs = enumerate(zip(space.spaces, value, strict=True))
        return [leaf for i, (s, v) in pairs for leaf in _leaves(s, v, f"{where}[{i}]", lead, read)]
    assert is_leaf(space)
    shape = shape_of(space)
    try:
        given = np.asarray(value)
        kept = np.uint8 if given.dtype == np.uint8 == space.dtype else np.float64  # images are large
        array = np.asarray(given, kept) if given.dtype.kind in _NUMBERS else None
    except (TypeError, ValueError) as error:
        raise WrongValueError(f"{where} is {_short(value)}; expected numbers of shape {shape}") from error
    if array is None:
        raise WrongValueError(
            f"{where} is {_short(value)}; expected numbers of shape {shape}, real ones, not {given.dtype}"
        )
    if array.shape != lead + shape:
        of = f"; {lead[0]} environments of the space {space} have {lead + shape}" if lead else ""
        raise WrongValueError(f"{where} has shape {array.shape}{of or f'; the space says {shape}'}")
    if read is None:
        return [encode_leaf(space, array, where)]
    leaf = np.zeros((*lead, int(spaces.flatdim(space))))
    leaf[read] = encode_leaf(space, array[read], where)
    return [leaf]


def _unflatten(space: spaces.Space[Any], flat: FloatArray, start: int) -> tuple[Any, int]:
    if isinstance(space, spaces.Dict):
        named = {}
        for key, child in space.spaces.items():
            named[key], start = _unflatten(child, flat, start)
        return named, start
    if isinstance(space, spaces.Tuple):
        parts = []
        for child in space.spaces:
            part, start = _unflatten(child, flat, start)
            parts.append(part)
        return tuple(parts), start
    assert is_leaf(space)
    stop = start + int(spaces.flatdim(space))
    return decode_leaf(space, flat[..., start:stop]), stop


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def difference(ours: spaces.Space[Any], theirs: spaces.Space[Any], where: str) -> str | None:
    """The difference that makes ``theirs`` unfit for a model of ``ours``; None where there is none.

    Dtypes do not count: models read float32 and choices counted from 0, and older files do not say which
    integers a ``Discrete`` has.
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
        same = type(ours) is type(theirs) and _leaf_identity(ours) == _leaf_identity(theirs)
        return None if same else f"{where} of the environment is {theirs}; the model's is {ours}"
    return next((d for name, a, b in pairs if (d := difference(a, b, name))), None)


def _leaf_identity(space: spaces.Space[Any]) -> Any:
    """What tells two spaces of one kind apart besides their dtype."""
    if isinstance(space, spaces.Discrete):
        return int(space.n), int(space.start)
    if isinstance(space, spaces.MultiDiscrete):
        return space.nvec.tolist(), space.start.tolist()
    return space.shape if isinstance(space, spaces.MultiBinary) else space
