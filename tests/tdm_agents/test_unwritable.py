"""Folders that cannot be written to, file systems and platforms without locks: a way out is said."""

import errno
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from tdm_agents import storage
from tdm_agents.data.decisions import CacheMovedWarning, cache_decisions
from tdm_agents.data.known_hashes import CACHE_FOLDER
from tdm_agents.data.minari_io import FlatEpisode, write_dataset
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.errors import PathError
from tdm_agents.storage import locked


class Plane(gym.Env[Any, Any]):
    """Only its spaces are read."""

    observation_space = spaces.Box(-9, 9, (2,), np.float32)
    action_space = spaces.Discrete(2)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    episode = FlatEpisode(
        np.zeros((4, 2), np.float32), np.zeros(3, np.int64), np.ones(3, np.float32), terminated=True
    )
    folder = tmp_path / "data"
    write_dataset(folder, Plane(), [episode, episode], description="", metadata={})
    return folder


def _block(folder: Path, how: str) -> None:
    if how == "a file in the way":
        (folder / CACHE_FOLDER).write_text("")
    elif os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    else:
        folder.chmod(0o555)


HOW = ["a file in the way", "no right to write"]


@pytest.mark.parametrize("how", HOW)
def test_another_place_is_used_and_said(
    data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    _block(data, how)
    with pytest.warns(CacheMovedWarning, match=f"kept in {tmp_path}/own/tdm-agents, since {data}/.tdm-cache"):
        first = cache_decisions(data, action_repeat=1)
    assert first.parent == tmp_path / "own" / "tdm-agents"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache_decisions(data, action_repeat=1) == first  # it is there already
    assert Trajectories.from_minari(data).num_decisions == 6


@pytest.mark.parametrize("how", HOW)
def test_nowhere_to_write_has_a_remedy(data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str):
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    _block(data, how)
    with pytest.raises(PathError, match=r"\.tdm-cache .* or .*taken/tdm-agents .*set XDG_CACHE_HOME"):
        cache_decisions(data, action_repeat=1)
    with pytest.raises(PathError, match="taken"):
        cache_decisions(data, action_repeat=1, cache=tmp_path / "taken")


def test_a_writable_folder_keeps_it_beside_the_data(data: Path):
    assert cache_decisions(data, action_repeat=1).parent == data / CACHE_FOLDER


@pytest.mark.parametrize("name", ["ENOLCK", "ENOSYS", "EOPNOTSUPP", "ENOTSUP"])
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    number = getattr(errno, name)

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(storage.fcntl, "flock", refuse)
    with (
        pytest.raises(PathError, match=f"{tmp_path} lies on a file system without locks.*local disk"),
        locked(tmp_path),
    ):
        pytest.fail("it was not locked")


def test_another_error_of_a_lock_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(storage.fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output") as told, locked(tmp_path):
        pytest.fail("it was not locked")
    assert told.value.errno == errno.EIO


def test_a_platform_without_fcntl_can_import_and_plan_but_not_lock(tmp_path: Path):
    code = f"""
import sys
sys.modules["fcntl"] = None  # as on Windows: its import fails
from pathlib import Path
import numpy as np
from tdm_agents import TDMAgent
from tdm_agents.storage import locked
TDMAgent.load("cartpole-swingup")
try:
    with locked(Path({str(tmp_path)!r})):
        print("locked")
except OSError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.startswith("PathError")
    assert "run this on Linux or macOS" in done.stdout
