"""The replay memory: the latest episodes, in memory-mapped arrays of a fixed size."""

from __future__ import annotations

import errno
import os
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Batch, ModelSpec
from tdm_agents.spaces.images import image_columns
from tdm_agents.storage import CheckpointError, make_folder


@dataclass(frozen=True, slots=True)
class PlayedEpisode:
    """An episode of ``L`` decisions.

    Attributes:
        observation: ``[L + 1, n]`` float32; of bytes where it is nothing but images.
        action: ``[L, m]``, float32 in [-1, 1] or int64 choices.
        reward: ``[L]`` float32, what each action brought.
        terminated: Whether the environment ended it; otherwise it was cut off, and would have gone on.
    """

    observation: npt.NDArray[np.float32] | npt.NDArray[np.uint8]
    action: npt.NDArray[Any]
    reward: npt.NDArray[np.float32]
    terminated: bool


@dataclass(frozen=True, slots=True)
class _Kept:
    """Where an episode lies: its first entry, counted since the memory was made, and their number."""

    first: int
    entries: int
    terminated: bool
    crc32: int


class Replay:
    """The latest episodes that fit in ``capacity`` entries, one more entry than decisions per episode.

    The arrays have room for ``slack`` entries more. So what :meth:`record` describes stays in place until as
    many entries have been added after it, and a run that is killed goes on from its last record. Images are
    kept as bytes.

    Args:
        folder: Where the arrays are; made if they do not exist.
        spec: Of the model that learns.
        capacity: Most entries that are sampled from.
        slack: Entries that are added between two records at most.
        fresh: Whether to begin with an empty memory, whatever the folder holds.

    Raises:
        CheckpointError: If the arrays there are not those of such a memory.
    """

    def __init__(self, folder: Path, spec: ModelSpec, *, capacity: int, slack: int, fresh: bool) -> None:
        self.capacity = capacity
        self._size = capacity + slack
        self._pixels = image_columns(spec.observation_space, spec.observation_dim)
        actions = np.int64 if spec.action_kind == "discrete" else np.float32
        pixels = int(self._pixels.sum())
        kinds: dict[str, tuple[tuple[int, ...], Any]] = {
            "observation": ((spec.observation_dim - pixels,), np.float32),
            "action": ((spec.action_dim,), actions),
            "reward": ((), np.float32),
            "image": ((pixels,), np.uint8),
        }
        self._mapped = {
            name: self._array(folder, name, shape, dtype, fresh)
            for name, (shape, dtype) in kinds.items()
            if 0 not in shape
        }
        self._files = {folder / f"{name}.npy": array for name, array in self._mapped.items()}
        # asarray drops np.memmap's slow subclass, not the mapping
        self._arrays = {name: np.asarray(array) for name, array in self._mapped.items()}
        self._action, self._reward = self._arrays["action"], self._arrays["reward"]
        self._kept: deque[_Kept] = deque()
        self._next = 0
        self._index()

    def _array(
        self, folder: Path, name: str, shape: tuple[int, ...], dtype: Any, fresh: bool
    ) -> np.memmap[Any, Any]:
        path, shape = folder / f"{name}.npy", (self._size, *shape)
        if fresh:
            make_folder(folder)
            path.unlink(missing_ok=True)
            return np.lib.format.open_memmap(path, "w+", dtype, shape)
        try:
            array = np.lib.format.open_memmap(path, "r+")
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{path} cannot be read ({error}); restore the folder, or begin in another one"
            ) from error
        if array.shape != shape or array.dtype != dtype:
            raise CheckpointError(
                f"{path} holds {array.dtype} {array.shape}; expected {np.dtype(dtype)} {shape}: it was "
                "altered; restore the folder, or begin in another one"
            )
        return array

    @property
    def decisions(self) -> int:
        """Decisions of the episodes that are sampled from."""
        return int(self._last[-1]) if len(self._kept) else 0

    @property
    def episodes(self) -> int:
        """Number of the episodes that are sampled from."""
        return len(self._kept)

    def add(self, episodes: Sequence[PlayedEpisode]) -> None:
        """Add episodes, and forget the oldest ones that no longer fit.

        Raises:
            ValueError: If one of them is longer than the capacity.
            OSError: If the disk is full.
        """
        for episode in episodes:
            entries = len(episode.reward) + 1
            if entries > self.capacity:
                raise WrongValueError(
                    f"an episode of {entries - 1:,} decisions does not fit in a replay memory of "
                    f"{self.capacity:,} entries: raise buffer_size (--buffer-size)"
                )
            rows = self._rows(self._next + np.arange(entries))
            self._reserve(int(rows[0]), entries)
            self._keep(rows, episode.observation)
            self._action[rows[:-1]] = episode.action
            self._action[rows[-1]] = 0
            self._reward[rows[0]] = np.nan
            self._reward[rows[1:]] = episode.reward
            self._kept.append(_Kept(self._next, entries, episode.terminated, self._crc32(rows)))
            self._next += entries
        while self._next - self._kept[0].first > self.capacity:
            self._kept.popleft()
        self._index()

    def batch(self, rng: np.random.Generator, count: int, steps: int) -> Batch:
        """``count`` windows of ``steps`` entries, each beginning at any decision, all equally likely.

        A window that runs past its episode is padded on the right, so that the last decisions of an episode
        are read about as often as any other.
        """
        number = rng.integers(self._last[-1], size=count)
        episode = np.searchsorted(self._last, number, side="right")
        length = self._entries[episode, None]
        # the number of a decision, plus one entry for each episode before its own
        start = number - self._last[episode] + length[:, 0] - 1
        step = start[:, None] + np.arange(steps)  # [B, T]
        valid, acted = step < length, step < length - 1
        rows = self._rows(self._first[episode, None] + np.minimum(step, length - 1))
        observation, action, reward = self._seen(rows), self._action[rows], self._reward[rows]
        observation[~valid], action[~acted], reward[~valid] = 0, 0, np.nan
        alive = valid & ~(self._terminated[episode, None] & (step == length - 1))
        return Batch(
            observation=torch.from_numpy(observation),
            reward=torch.from_numpy(reward),
            action=torch.from_numpy(action),
            alive=torch.from_numpy(alive),
            valid=torch.from_numpy(valid),
            acted=torch.from_numpy(acted),
        )

    def episode(self, index: int) -> PlayedEpisode:
        """A copy of an episode, the oldest one being number 0."""
        kept = self._kept[index]
        rows = self._rows(kept.first + np.arange(kept.entries))
        return PlayedEpisode(
            self._seen(rows), self._action[rows[:-1]], self._reward[rows[1:]], kept.terminated
        )

    def record(self) -> dict[str, Any]:
        """Which episodes there are, as JSON; what they hold is on disk when this returns."""
        for array in self._mapped.values():
            array.flush()
        kept = [[k.first, k.entries, int(k.terminated), k.crc32] for k in self._kept]
        return {"next": self._next, "episodes": kept}

    def restore(self, record: Mapping[str, Any]) -> None:
        """Go back to the episodes that :meth:`record` described.

        Raises:
            CheckpointError: If one of them is not what it was.
        """
        try:
            self._next = int(record["next"])
            self._kept = deque(_Kept(int(f), int(e), bool(t), int(c)) for f, e, t, c in record["episodes"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"the record of the replay memory is not readable: {error}") from error
        for kept in self._kept:
            if self._crc32(self._rows(kept.first + np.arange(kept.entries))) != kept.crc32:
                raise CheckpointError(
                    f"the replay memory differs from its record at entry {kept.first:,}: it was altered; "
                    "restore the folder, or begin in another one"
                )
        self._index()

    def _reserve(self, first: int, entries: int) -> None:
        """Take the room of these entries on disk: a full disk raises here, and kills who fills a mapping."""
        if not hasattr(os, "posix_fallocate"):  # macOS, Windows
            return
        last = min(first + entries, self._size)
        spans = [(first, last), (0, first + entries - last)]
        for path, array in self._files.items():
            row = array.dtype.itemsize * int(np.prod(array.shape[1:]))
            with path.open("r+b") as file:
                for begin, end in spans:
                    if end > begin:
                        _allocate(file.fileno(), array.offset + begin * row, (end - begin) * row)

    def _keep(self, rows: npt.NDArray[np.int64], observation: npt.NDArray[Any]) -> None:
        if "observation" in self._arrays:
            self._arrays["observation"][rows] = observation[:, ~self._pixels]
        if "image" in self._arrays:
            self._arrays["image"][rows] = observation[:, self._pixels]

    def _seen(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """A copy of the observations ``[..., n]``; of bytes where they are nothing but images."""
        parts = [self._arrays[name][rows] for name in ("observation", "image") if name in self._arrays]
        if len(parts) == 1:
            return parts[0]
        seen = np.empty((*rows.shape, len(self._pixels)), np.float32)
        seen[..., ~self._pixels], seen[..., self._pixels] = parts
        return seen

    def _rows(self, entry: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        rows: npt.NDArray[np.int64] = entry % self._size
        return rows

    def _crc32(self, rows: npt.NDArray[np.int64]) -> int:
        value = 0
        for array in self._arrays.values():
            value = zlib.crc32(np.ascontiguousarray(array[rows]).data, value)
        return value

    def _index(self) -> None:
        self._first = np.array([k.first for k in self._kept], np.int64)
        self._entries = np.array([k.entries for k in self._kept], np.int64)
        self._terminated = np.array([k.terminated for k in self._kept], bool)
        self._last = np.cumsum(self._entries - 1)  # number of the decision after each episode's last


def _allocate(file: int, offset: int, length: int) -> None:
    """Take room on disk, where the file system can."""
    try:
        os.posix_fallocate(file, offset, length)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
