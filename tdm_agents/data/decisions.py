"""Decision steps made from environment steps: memory-mapped arrays in a cache folder, made once.

A decision lasts ``action_repeat`` environment steps with one action; a model sees the observation at its
start and the sum of the rewards inside it.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import re
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from tdm_agents.data.known_hashes import cache_places, keep_hash, known_hash
from tdm_agents.data.minari_io import (
    REPAIR,
    DataError,
    DatasetInfo,
    FlatEpisode,
    describe,
    locate,
    read_episodes,
)
from tdm_agents.errors import PathError, WrongValueError
from tdm_agents.spaces import ActionCodec, DiscreteActionCodec, FloatArray, ObservationCodec, action_codec
from tdm_agents.spaces.space_json import space_to_json
from tdm_agents.storage import CheckpointError, read_json, sweep_partial_folders, write_json

SCHEMA = 2
ARRAYS = ("observation", "reward", "action", "alive", "offsets")
INFO_FILE = "info.json"
_KEY = re.compile(r"[0-9a-f]{16}(-\d+)?")


class CacheMovedWarning(UserWarning):
    """The folder of the data cannot be written to, so that their decision steps are kept elsewhere."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """One episode of ``D`` decisions, hence ``D + 1`` steps.

    Attributes:
        observation: ``[D + 1, n]`` float32.
        reward: ``[D + 1]`` float32, the reward that arrived with each observation; NaN at the first.
        action: ``[D + 1, m]``, taken after each observation: float32 in [-1, 1], or int64 choices counted
            from 0 where actions are discrete; 0 at the last.
        alive: ``[D + 1]`` bool; False at the observation in which the episode terminated.
    """

    observation: FloatArray
    reward: FloatArray
    action: FloatArray | npt.NDArray[np.int64]
    alive: npt.NDArray[np.bool_]


def decisions(
    episode: FlatEpisode, codec: ActionCodec | DiscreteActionCodec, *, action_repeat: int
) -> Decisions:
    """Group the environment steps of an episode into decisions.

    An incomplete decision at the end is dropped if the episode was cut off. It is kept, with the rewards
    that it had, if the episode terminated in it.

    Args:
        episode: ``L`` environment steps; the action must be constant inside a block.
        codec: Codec of the environment's action space.
        action_repeat: Environment steps per decision.

    Raises:
        ValueError: If an action does not belong to the space.
    """
    steps = len(episode.reward)
    blocks = -(-steps // action_repeat) if episode.terminated else steps // action_repeat
    begin = np.arange(blocks) * action_repeat
    end = np.minimum(begin + action_repeat, steps)
    observation = episode.observation[np.append(begin, end[-1] if blocks else 0)]
    reward = np.full(blocks + 1, np.nan, np.float32)
    encoded = codec.encode(episode.action[begin])
    action = np.zeros((blocks + 1, codec.dim), encoded.dtype)
    alive = np.ones(blocks + 1, bool)
    if blocks:
        # sums in float64 are the same to the last bit whatever the order in which a caller adds them up
        reward[1:] = np.add.reduceat(episode.reward[: end[-1]].astype(np.float64), begin)
        action[:-1] = encoded
        alive[-1] = not episode.terminated
    return Decisions(observation, reward, action, alive)


def changes_inside_blocks(action: npt.NDArray[Any], *, action_repeat: int) -> npt.NDArray[np.int64]:
    """Environment steps whose action differs from the one before, though both are in one block."""
    different = (action[1:] != action[:-1]).any(axis=tuple(range(1, action.ndim)))
    step: npt.NDArray[np.int64] = np.flatnonzero(different) + 1
    inside: npt.NDArray[np.int64] = step[step % action_repeat != 0]
    return inside


def cache_decisions(
    source: str | os.PathLike[str], *, action_repeat: int, cache: str | os.PathLike[str] | None = None
) -> Path:
    """The folder with the decision steps of a Minari data set, written unless it exists.

    Its name is a hash of the data set's files and ``action_repeat``, and it appears whole or not at all.
    Only one episode is in memory at a time. What killed processes left half-written there is removed.

    Args:
        source: A folder or Minari id, see :func:`~tdm_agents.data.minari_io.locate`.
        action_repeat: Environment steps per decision, at least 1.
        cache: Folder to keep it in; by default ``.tdm-cache`` beside the data set, or where that cannot be
            written ``tdm-agents`` in the user's cache folder, with a warning.

    Raises:
        DataError: If there is no such data set, it has no episodes, an action changes inside a decision, or
            something in it does not fit its spaces.
        ValueError: If its spaces cannot be planned over, or ``action_repeat`` is not positive.
        PathError: If there is nowhere to write to.
    """
    if action_repeat < 1:
        raise WrongValueError(
            f"action_repeat is {action_repeat}; expected at least 1 environment step per decision"
        )
    path = locate(source)
    places = [Path(cache)] if cache is not None else cache_places(path)
    digest = known_hash(path, places)
    key = hashlib.sha256(f"{SCHEMA}:{action_repeat}:{digest}".encode()).hexdigest()[:16]
    for place in places:
        sweep_partial_folders(place, lambda name: _KEY.fullmatch(name) is not None)
        if (place / key).is_dir() and _is_whole(place / key):
            return place / key
    info = describe(path)
    if not info.episodes:
        raise DataError(f"{info.path} has no episodes; collect some")
    building = _begin(places, key)
    target = building.parent / key
    try:
        _write(building, info, digest, action_repeat)
        try:
            building.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another process has written the same content first
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    keep_hash(path, digest, target.parent)
    return target


_NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})


def _is_whole(folder: Path) -> bool:
    """Whether what was written last can be read; where not (after a loss of power, say), all is removed.

    Raises:
        PathError: If it cannot be removed.
    """
    try:
        np.load(folder / "offsets.npy")
        read_info(folder)
        return True
    except (CheckpointError, EOFError, OSError, ValueError):
        pass
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise PathError(
            f"the decision steps in {folder} are damaged and cannot be removed ({error.strerror}); remove "
            "that folder: it is made again from the data"
        ) from error
    return False


def _partial(place: Path, key: str) -> Path:
    """A new name; one of this process may be there, of a former process with its number in a container."""
    ways = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    names = (f".{key}{way}.{os.getpid()}.partial" for way in ways)
    return next(place / name for name in names if not (place / name).exists())


def _begin(places: Sequence[Path], key: str) -> Path:
    """A new folder in the first place that can be written to; said in a warning where that is not the first.

    Raises:
        PathError: If there is none.
    """
    refused: list[str] = []
    for place in places:
        building = _partial(place, key)
        try:
            building.mkdir(parents=True)
        except OSError as error:
            if error.errno not in _NOT_WRITABLE:
                raise
            refused.append(f"{place} ({error.strerror})")
            continue
        if refused:
            warnings.warn(
                f"the decision steps are kept in {place}, since {refused[0]} cannot be written to",
                CacheMovedWarning,
                stacklevel=2,
            )
        return building
    raise PathError(
        f"the decision steps cannot be kept in {' or '.join(refused)}; make one writable, set XDG_CACHE_HOME "
        "to a folder that is, or copy the data set to one"
    )


def _write(folder: Path, info: DatasetInfo, digest: str, action_repeat: int) -> None:
    codec = action_codec(info.action_space)
    action_dtype = np.int64 if isinstance(codec, DiscreteActionCodec) else np.float32
    observation_dim = ObservationCodec(info.observation_space).dim
    offsets = [0]
    changed: list[tuple[int, npt.NDArray[np.int64]]] = []
    with (
        _GrowingArray(folder / "observation.npy", np.float32, (observation_dim,)) as observation,
        _GrowingArray(folder / "reward.npy", np.float32, ()) as reward,
        _GrowingArray(folder / "action.npy", action_dtype, (codec.dim,)) as action,
        _GrowingArray(folder / "alive.npy", np.bool_, ()) as alive,
    ):
        for index, episode in enumerate(read_episodes(info)):
            inside = changes_inside_blocks(episode.action, action_repeat=action_repeat)
            if inside.size:
                changed.append((index, inside))
            if changed:
                continue  # only counted from here on
            try:
                taken = decisions(episode, codec, action_repeat=action_repeat)
            except ValueError as error:
                raise DataError(f"episode {index} of {info.path}: {error}; {REPAIR}") from error
            if len(taken.reward) < 2:
                continue  # it ended before a decision did: there is nothing to learn from it
            observation.append(taken.observation)
            reward.append(taken.reward)
            action.append(taken.action)
            alive.append(taken.alive)
            offsets.append(offsets[-1] + len(taken.reward))
    if changed:
        first, steps = changed[0]
        blocks = sum(len(np.unique(s // action_repeat)) for _, s in changed)
        raise DataError(
            f"episode {first} of {info.path} changes its action at env step {steps[0]}, inside a decision "
            f"of {action_repeat} env steps (so do {blocks} decisions in {len(changed)} of {info.episodes} "
            f"episodes), so a model with action_repeat {action_repeat} cannot learn from it. Use "
            "action_repeat=1 (--action-repeat 1) or a divisor of the repeat that it was collected with, or "
            f"collect with --action-repeat {action_repeat}"
        )
    if len(offsets) == 1:
        raise DataError(
            f"none of the {info.episodes} episodes of {info.path} lasts one decision of {action_repeat} "
            "environment steps; use a smaller action_repeat, or collect longer episodes"
        )
    with (folder / "offsets.npy").open("wb") as file:
        np.save(file, np.asarray(offsets, np.int64))
        file.flush()
        os.fsync(file.fileno())
    write_json(
        folder / INFO_FILE,
        {
            "schema": SCHEMA,
            "env_id": info.env_id,
            "env_kwargs": dict(info.env_kwargs),
            "action_repeat": action_repeat,
            "source": digest,
            "observation_space": space_to_json(info.observation_space),
            "action_space": space_to_json(info.action_space),
            "observation_names": list(info.observation_names),
        },
    )


class _GrowingArray:
    """A ``.npy`` file whose first axis grows; its header is rewritten in place at the end.

    numpy pads headers so that the first axis can grow to any int64 without moving the data.
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike, tail: tuple[int, ...]) -> None:
        self._file = path.open("wb")
        self._dtype = np.dtype(dtype)
        self._tail = tail
        self._length = 0
        self._header()
        self._start = self._file.tell()

    def __enter__(self) -> _GrowingArray:
        return self

    def append(self, rows: npt.NDArray[Any]) -> None:
        assert rows.dtype == self._dtype and rows.shape[1:] == self._tail
        self._file.write(np.ascontiguousarray(rows).data)
        self._length += len(rows)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            self._file.seek(0)
            self._header()
            assert self._file.tell() == self._start, "numpy moved the data behind a longer header"
            self._file.flush()
            os.fsync(self._file.fileno())

    def _header(self) -> None:
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": (self._length, *self._tail),
            },
        )


def read_info(folder: Path) -> dict[str, Any]:
    """The JSON beside the arrays that :func:`cache_decisions` wrote."""
    return read_json(folder / INFO_FILE, schema=SCHEMA)
