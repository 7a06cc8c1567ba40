from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from pathlib import Path

import gymnasium as gym
import minari
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from tdm_agents.data import known_hashes, minari_io
from tdm_agents.data.decisions import cache_decisions, decisions
from tdm_agents.data.minari_io import DataError, FlatEpisode, read_episodes, write_dataset
from tdm_agents.data.minari_io import describe as describe_dataset
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.spaces import ActionCodec
from tdm_agents.storage import ABANDONED_AFTER


class Shell(gym.Env):
    """Spaces without dynamics; the observation's keys are not in alphabetical order."""

    observation_space = spaces.Dict(
        OrderedDict(
            velocity=spaces.Box(-np.inf, np.inf, (2,), np.float64), height=spaces.Box(-9, 9, (), np.float64)
        )
    )
    action_space = spaces.Box(-2.0, 2.0, (1, 2), np.float64)


def episode(seed: int, steps: int, *, repeat: int = 1, terminated: bool = False) -> FlatEpisode:
    rng = np.random.default_rng(seed)
    held = rng.uniform(-2, 2, (-(-steps // repeat), 1, 2))
    return FlatEpisode(
        observation=rng.standard_normal((steps + 1, 3)).astype(np.float32),
        action=np.repeat(held, repeat, axis=0)[:steps],
        reward=rng.standard_normal(steps).astype(np.float32),
        terminated=terminated,
        seed=1_000_000 + seed,
        metadata={"policy": "random", "scale": 0.5},
    )


def write(folder: Path, *episodes: FlatEpisode, env: gym.Env | None = None) -> Path:
    write_dataset(folder, env or Shell(), episodes, description="a test", metadata={})
    return folder


def test_round_trip_through_minari(tmp_path):
    written = [episode(0, 7), episode(1, 5, terminated=True), episode(2, 1)]
    folder = write(tmp_path / "shell", *written)

    theirs = minari.MinariDataset(folder / "data")
    assert theirs.id == "shell-v0" and theirs.total_steps == 13
    first = theirs[0]
    np.testing.assert_array_equal(first.observations["velocity"], written[0].observation[:, :2])
    np.testing.assert_array_equal(first.observations["height"], written[0].observation[:, 2])
    assert first.observations["velocity"].dtype == np.float32
    assert list(first.truncations) == [False] * 6 + [True]
    about = next(iter(theirs.storage.get_episode_metadata([1])))
    assert about["policy"] == "random" and about["seed"] == 1_000_001

    for got, expected in zip(read_episodes(describe_dataset(folder / "data")), written, strict=True):
        np.testing.assert_array_equal(got.observation, expected.observation)
        np.testing.assert_array_equal(got.action, expected.action)
        np.testing.assert_array_equal(got.reward, expected.reward)
        assert got.terminated == expected.terminated


def test_what_a_killed_writer_left_is_replaced(tmp_path):
    left = tmp_path / "shell" / ".data.partial"
    left.mkdir(parents=True)
    (left / "main_data.hdf5").write_bytes(b"half")
    folder = write(tmp_path / "shell", episode(0, 7))
    assert not left.exists()
    assert Trajectories.from_minari(folder).num_decisions == 7


def test_decisions_of_env_steps_without_repeat(tmp_path):
    written = [episode(0, 7), episode(1, 5, terminated=True)]
    got = Trajectories.from_minari(write(tmp_path / "shell", *written))

    assert (got.num_episodes, got.num_decisions, got.observation_dim, got.action_dim) == (2, 12, 3, 2)
    assert got.info.observation_space == Shell.observation_space
    assert list(got.info.observation_space.spaces) == ["velocity", "height"]
    assert got.terminates and not got.select(np.array([0])).terminates
    for index, raw in enumerate(written):
        steps = got.episode(index)
        np.testing.assert_array_equal(steps.observation, raw.observation)
        np.testing.assert_array_equal(steps.reward, np.append(np.float32(np.nan), raw.reward))
        np.testing.assert_allclose(steps.action[:-1], raw.action.reshape(-1, 2) / 2, rtol=1e-6)
        assert not steps.action[-1].any()
        assert steps.alive[:-1].all() and steps.alive[-1] == (not raw.terminated)
    np.testing.assert_allclose(got.returns(), [r.reward.sum() for r in written], rtol=1e-5)


@pytest.mark.parametrize(("terminated", "expected"), [(False, 2), (True, 3)])
def test_partial_block_is_dropped_when_cut_off_and_kept_when_terminated(tmp_path, terminated, expected):
    raw = episode(3, 11, repeat=4, terminated=terminated)
    steps = Trajectories.from_minari(write(tmp_path / "shell", raw), action_repeat=4).episode(0)

    assert len(steps.reward) == expected + 1
    np.testing.assert_array_equal(steps.observation, raw.observation[[0, 4, 8, 11][: expected + 1]])
    sums = [raw.reward[:4].sum(), raw.reward[4:8].sum(), raw.reward[8:].sum()]
    np.testing.assert_allclose(steps.reward[1:], sums[:expected], rtol=1e-5)


@settings(deadline=None)
@given(steps=st.integers(1, 40), repeat=st.integers(1, 7), terminated=st.booleans())
def test_blocks_cover_what_they_claim(steps, repeat, terminated):
    raw = episode(4, steps, repeat=repeat, terminated=terminated)
    got = decisions(raw, ActionCodec(Shell.action_space), action_repeat=repeat)
    covered = steps if terminated else steps - steps % repeat
    assert np.nansum(got.reward, dtype=np.float64) == pytest.approx(
        raw.reward[:covered].sum(dtype=np.float64), abs=1e-4
    )
    np.testing.assert_array_equal(got.observation[-1], raw.observation[covered])
    assert np.isnan(got.reward[0]) and not np.isnan(got.reward[1:]).any()
    assert got.alive[-1] == (not terminated)


def test_action_that_changes_inside_a_decision_is_refused_with_counts(tmp_path):
    held, free = episode(0, 8, repeat=4), episode(1, 8)
    folder = write(tmp_path / "shell", held, free, free)
    with pytest.raises(
        DataError,
        match=r"episode 1 .* at env step 1, .* 4 decisions in 2 of 3 episodes.*action_repeat=1",
    ):
        Trajectories.from_minari(folder, action_repeat=4)
    assert Trajectories.from_minari(folder).num_decisions == 24
    assert [p.name for p in (folder / ".tdm-cache").iterdir() if p.name.endswith(".partial")] == []


def folders(cache):
    return [path for path in cache.iterdir() if path.is_dir()]


def test_arrays_are_mapped_and_made_once(tmp_path):
    folder = write(tmp_path / "shell", episode(0, 8, repeat=2))
    first = Trajectories.from_minari(folder, action_repeat=2)
    (cached,) = folders(folder / ".tdm-cache")
    made = (cached / "observation.npy").stat().st_mtime_ns
    again = Trajectories.from_minari(folder, action_repeat=2)
    assert (cached / "observation.npy").stat().st_mtime_ns == made
    assert again.info == first.info
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(cached) in line]
    assert len(again.parts[0].observation) == 5 and mapped
    opened = [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]
    assert not [file for file in opened if str(cached) in file]  # thousands of data sets must be possible
    with pytest.raises(ValueError, match="read-only"):
        again.parts[0].observation[0] = 0

    Trajectories.from_minari(folder, action_repeat=1, cache=tmp_path / "elsewhere")
    other = write(tmp_path / "other", episode(1, 8, repeat=2))
    assert Trajectories.from_minari(other).info.source != first.info.source
    assert len(folders(tmp_path / "elsewhere")) == 1


def test_a_start_does_not_read_data_again_that_have_not_changed(tmp_path, monkeypatch):
    folder, read = write(tmp_path / "shell", episode(0, 8)), []
    for file in (folder / "data").iterdir():
        os.utime(file, (1e9, 1e9))

    def content_hash(path):
        read.append(path)
        return minari_io.content_hash(path)

    monkeypatch.setattr(known_hashes, "content_hash", content_hash)
    first = Trajectories.from_minari(folder).info
    monkeypatch.setattr(known_hashes, "_found", {})  # as a new process
    assert Trajectories.from_minari(folder).info == first and len(read) == 1
    metadata = folder / "data/metadata.json"
    metadata.write_text(metadata.read_text() + " ")
    assert Trajectories.from_minari(folder).info.source != first.source


def test_a_hash_that_cannot_be_kept_ends_nothing(tmp_path, monkeypatch):
    folder = write(tmp_path / "shell", episode(0, 8))
    for file in (folder / "data").iterdir():
        os.utime(file, (1e9, 1e9))
    place = tmp_path / "cache"
    place.mkdir()

    def full(_self, _target):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        assert known_hashes.known_hash(folder, [place]) == minari_io.content_hash(folder)
    assert not list(place.iterdir())


MAKE_CACHE = """
import sys
from tdm_agents.data.decisions import cache_decisions

cache_decisions(sys.argv[1], action_repeat=1)
"""
NOBODY = 2**22 + 1
"""Larger than any process id."""


def make_old(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        os.utime(path, (time.time() - 2 * ABANDONED_AFTER,) * 2)


def test_what_a_killed_process_left_in_the_cache_is_swept_but_not_a_living_ones(tmp_path):
    folder = write(tmp_path / "shell", *[episode(seed, 4) for seed in range(300)])
    with subprocess.Popen([sys.executable, "-c", MAKE_CACHE, folder]) as child:
        while not (begun := list(folder.glob(".tdm-cache/.*.partial"))):
            assert child.poll() is None
            time.sleep(0.001)
        child.send_signal(signal.SIGSTOP)
        make_old(begun[0])
        made = cache_decisions(folder, action_repeat=1)
        assert begun[0].is_dir(), "its process is alive"
        child.kill()
    make_old(begun[0])
    assert cache_decisions(folder, action_repeat=1) == made
    assert [path for path in made.parent.iterdir() if path.is_dir()] == [made]


def test_of_processes_that_are_not_found_only_what_is_old_and_ours_is_swept(tmp_path):
    folder = write(tmp_path / "shell", episode(0, 4))
    made = cache_decisions(folder, action_repeat=1)
    old, young = (made.with_name(f".{made.name}.{NOBODY + index}.partial") for index in range(2))
    foreign = made.with_name(f".notes.{NOBODY}.partial")
    for path in (old, young, foreign):
        path.mkdir()
    make_old(old)
    make_old(foreign)
    cache_decisions(folder, action_repeat=1)
    assert sorted(made.parent.iterdir()) == sorted([made, young, foreign])


def test_what_a_former_process_of_this_number_left_is_in_nobodys_way(tmp_path):
    folder = write(tmp_path / "shell", episode(0, 4))
    made = cache_decisions(folder, action_repeat=1)
    shutil.rmtree(made)
    left = made.with_name(f".{made.name}.{os.getpid()}.partial")
    left.mkdir()
    assert cache_decisions(folder, action_repeat=1) == made and left.is_dir()  # perhaps a container's own
    make_old(left)
    cache_decisions(folder, action_repeat=1)
    assert not left.exists()


@pytest.mark.parametrize("name", ["offsets.npy", "info.json"])
def test_a_damaged_cache_is_made_again(name, tmp_path):
    folder = write(tmp_path / "shell", episode(0, 4))
    made = cache_decisions(folder, action_repeat=1)
    whole = (made / name).read_bytes()
    (made / name).write_bytes(b"")
    assert cache_decisions(folder, action_repeat=1) == made
    assert (made / name).read_bytes() == whole


def test_the_same_episodes_twice_are_refused(tmp_path):
    a = write(tmp_path / "a", episode(0, 4))
    with pytest.raises(DataError, match="hold the same episodes: name each data set once"):
        Trajectories.from_minari([a, a])


def test_several_data_sets_as_one(tmp_path):
    a = write(tmp_path / "a", episode(0, 4), episode(1, 6))
    b = write(tmp_path / "b", episode(2, 5))
    both = Trajectories.from_minari([a, b])
    assert (both.num_episodes, both.num_decisions, len(both.info.source)) == (3, 15, 2)
    np.testing.assert_array_equal(both.episode(2).observation, episode(2, 5).observation)

    class Other(Shell):
        action_space = spaces.Box(-1.0, 1.0, (1, 2), np.float64)

    c = write(tmp_path / "c", episode(3, 4), env=Other())
    with pytest.raises(DataError, match=r"data set 1 .* has action_space"):
        Trajectories.from_minari([a, c])


def test_split_is_by_episode_disjoint_and_repeatable(tmp_path):
    data = Trajectories.from_minari(write(tmp_path / "shell", *(episode(s, 3 + s) for s in range(10))))
    train, held_out = data.split(0.2, seed=5)
    firsts = {int(first) for first in train.episodes[:, 1]}, {int(first) for first in held_out.episodes[:, 1]}
    assert not firsts[0] & firsts[1]
    assert firsts[0] | firsts[1] == {int(first) for first in data.episodes[:, 1]}
    assert held_out.num_episodes == 2
    np.testing.assert_array_equal(data.split(0.2, seed=5)[1].episodes, held_out.episodes)
    assert any(not np.array_equal(data.split(0.2, seed=s)[1].episodes, held_out.episodes) for s in range(5))
    with pytest.raises(ValueError, match="between 0 and 1"):
        data.split(1.0, seed=0)
    with pytest.raises(ValueError, match="at least 2"):
        held_out.select(np.array([0])).split(0.5, seed=0)


def test_bad_sources_are_named():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with pytest.raises(DataError, match="tdm collect"):
            Trajectories.from_minari(folder / "nothing")
        raw = episode(0, 6)
        raw.reward[3] = np.nan
        with pytest.raises(DataError, match=r"episode 1 .* infinite reward at step 3"):
            Trajectories.from_minari(write(folder / "nan", episode(1, 2), raw))
        with pytest.raises(ValueError, match="action_repeat is 0"):
            Trajectories.from_minari(folder / "nan", action_repeat=0)
        with pytest.raises(DataError, match="exists"):
            write(folder / "nan", episode(1, 2))
