"""Decision steps on disk, mapped into memory where they are read, and shared by the processes of a machine.

The mappings of Python and numpy keep their file open; those of PyTorch do not. So thousands of data sets need
no open files. How many mappings a process may have is limited too (65,530 on Linux); those that were read
longest ago are let go.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from tdm_agents.spaces import FloatArray

MOST_MAPPED = 32_768
"""Largest number of arrays that stay mapped, four per data set."""


class Steps(Protocol):
    """Arrays of ``S`` steps of a data set; see :class:`tdm_agents.data.decisions.Decisions`."""

    @property
    def observation(self) -> FloatArray:
        """``[S, n]`` float32."""
        ...

    @property
    def reward(self) -> FloatArray:
        """``[S]`` float32."""
        ...

    @property
    def action(self) -> FloatArray | npt.NDArray[np.int64]:
        """``[S, m]`` float32 or int64."""
        ...

    @property
    def alive(self) -> npt.NDArray[np.bool_]:
        """``[S]`` bool."""
        ...


@dataclass(frozen=True, slots=True)
class Rewarded:
    """Steps with other rewards, ``reward[S]``."""

    steps: Steps
    reward: FloatArray

    @property
    def observation(self) -> FloatArray:
        """``[S, n]`` float32."""
        return self.steps.observation

    @property
    def action(self) -> FloatArray | npt.NDArray[np.int64]:
        """``[S, m]`` float32 or int64."""
        return self.steps.action

    @property
    def alive(self) -> npt.NDArray[np.bool_]:
        """``[S]`` bool."""
        return self.steps.alive


class MappedSteps:
    """The arrays in a folder of :func:`tdm_agents.data.decisions.cache_decisions`, read only.

    Args:
        folder: The folder.
    """

    __slots__ = ("_folder",)

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    @property
    def observation(self) -> FloatArray:
        """``[S, n]`` float32."""
        return mapped(f"{self._folder}/observation.npy")

    @property
    def reward(self) -> FloatArray:
        """``[S]`` float32."""
        return mapped(f"{self._folder}/reward.npy")

    @property
    def action(self) -> FloatArray | npt.NDArray[np.int64]:
        """``[S, m]`` float32 or int64."""
        return mapped(f"{self._folder}/action.npy")

    @property
    def alive(self) -> npt.NDArray[np.bool_]:
        """``[S]`` bool."""
        return mapped(f"{self._folder}/alive.npy")


@lru_cache(maxsize=MOST_MAPPED)
def mapped(file: str) -> npt.NDArray[Any]:
    """The array in a ``.npy`` file, mapped read only; the file is closed again.

    Raises:
        ValueError: If it is no such file, or shorter than it says.
    """
    with open(file, "rb") as opened:
        np.lib.format.read_magic(opened)
        shape, _, dtype = np.lib.format.read_array_header_1_0(opened)
        start, length = opened.tell(), opened.seek(0, 2)
    end = start + int(np.prod(shape)) * dtype.itemsize
    if length < end:
        raise ValueError(f"{file} has {length} bytes, its header says {end}: it is cut off")
    # float32, int64 and bool are aligned, since the header is padded to 64 bytes
    array = torch.from_file(file, shared=False, size=end, dtype=torch.uint8).numpy()
    array.flags.writeable = False
    return array[start:].view(dtype).reshape(shape)
