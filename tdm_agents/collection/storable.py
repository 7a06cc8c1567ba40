"""Whether what an environment returns can be stored and read back: asked before the first episode."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from tdm_agents.data.minari_io import (
    DataError,
    FlatEpisode,
    describe,
    flatten_steps,
    read_episodes,
    unflatten_steps,
    write_dataset,
)
from tdm_agents.errors import TDMError, WrongValueError
from tdm_agents.spaces import ObservationCodec, action_codec

LARGEST_EXACT = 2**24
"""Up to which float32 holds every integer."""


def check_storable(env: gym.Env[Any, Any]) -> None:
    """Refuse an environment of which a data set could not be read again, by writing and reading a small one.

    Raises:
        DataError: If a key of a ``Dict`` is none that HDF5 has, or the small data set comes back changed.
        ValueError: If its spaces cannot be planned over.
    """
    codec, actions = ObservationCodec(env.observation_space), action_codec(env.action_space)
    for key, where in _keys(env.observation_space, "observation_space"):
        if not isinstance(key, str) or key in ("", ".") or "/" in key or "\0" in key or not _is_text(key):
            raise DataError(
                f"{where} has the key {key!r}, which a Minari data set cannot store and read back; expected "
                "text without '/': rename it, for example with gymnasium.wrappers.TransformObservation"
            )
    flat = flatten_steps(codec.space, unflatten_steps(codec.space, np.zeros((3, codec.dim), np.float32)))
    chosen = np.zeros((2, actions.dim), np.int64 if hasattr(actions, "choices") else np.float32)
    episode = FlatEpisode(flat, actions.decode(chosen), np.zeros(2, np.float32), terminated=False)
    try:
        with TemporaryDirectory() as folder:
            data = write_dataset(Path(folder) / "small", env, [episode], description="", metadata={})
            (back,) = read_episodes(describe(data))
    except (TDMError, AssertionError, LookupError, NotImplementedError, TypeError, ValueError) as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno is not None:  # of the disk, not of the spaces
            raise DataError(
                f"a small data set, by which {env} is tried, cannot be written to {gettempdir()} "
                f"({os.strerror(cause.errno)}); make room there, or set TMPDIR to another folder"
            ) from error
        raise DataError(
            f"{env} cannot be collected from, since a data set of its spaces {env.observation_space} and "
            f"{env.action_space} cannot be stored and read back ({type(error).__name__}: {error}); wrap it "
            "so that its spaces are simpler, for example with gymnasium.wrappers.FlattenObservation"
        ) from error
    if not (np.array_equal(back.observation, flat) and np.array_equal(back.action, episode.action)):
        raise DataError(
            f"{env} cannot be collected from: a data set of its spaces {env.observation_space} and "
            f"{env.action_space} does not read back as it was written; wrap it so that they are simpler"
        )


def exactness(space: spaces.Space[Any]) -> Callable[[Any], None]:
    """A check of observations: integers that float32 would change are refused; nothing where there are none.

    Returns:
        A function of an observation that raises a ``ValueError``.
    """
    return (lambda observation: _check(space, observation, "observation")) if _has_wide(space) else _accept


def _accept(observation: Any) -> None:
    """All numbers of these observations are exact in float32."""


def _has_wide(space: spaces.Space[Any]) -> bool:
    if isinstance(space, spaces.Dict):
        return any(map(_has_wide, space.spaces.values()))
    if isinstance(space, spaces.Tuple):
        return any(map(_has_wide, space.spaces))
    return (
        isinstance(space, spaces.Box)
        and space.dtype is not None
        and (space.dtype.kind in "iu" and space.dtype.itemsize > 2)
    )


def _check(space: spaces.Space[Any], value: Any, where: str) -> None:
    if isinstance(space, spaces.Dict):
        for key, child in space.spaces.items():
            _check(child, value[key], f"{where}[{key!r}]")
    elif isinstance(space, spaces.Tuple):
        for index, child in enumerate(space.spaces):
            _check(child, value[index], f"{where}[{index}]")
    elif _has_wide(space):
        array = np.asarray(value)
        far = array[(array > LARGEST_EXACT) | (array < -LARGEST_EXACT)]
        for number in far.tolist():
            if int(np.float32(number)) != number:
                raise WrongValueError(
                    f"{where} holds the integer {number}, which the float32 that models read would make "
                    f"{int(np.float32(number))}; scale or split it with "
                    "gymnasium.wrappers.TransformObservation"
                )


def _keys(space: spaces.Space[Any], where: str) -> Iterator[tuple[Any, str]]:
    """Every key of every ``Dict``, and what it is in."""
    if isinstance(space, spaces.Dict):
        for key, child in space.spaces.items():
            yield key, where
            yield from _keys(child, f"{where}[{key!r}]")
    elif isinstance(space, spaces.Tuple):
        for index, child in enumerate(space.spaces):
            yield from _keys(child, f"{where}[{index}]")


def _is_text(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
