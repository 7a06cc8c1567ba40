"""``tdm data repair``: what can be used of a damaged data set, with a reason for each episode that cannot."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest
from gymnasium import spaces

from tdm_agents.cli.main import main
from tdm_agents.data.minari_io import (
    DataError,
    FlatEpisode,
    content_hash,
    describe,
    episode_metadata,
    read_episodes,
    write_dataset,
)
from tdm_agents.data.repair import repair
from tdm_agents.data.trajectories import Trajectories


class Plane(gym.Env[Any, Any]):
    """Only its spaces are read."""

    observation_space = spaces.Dict({"x": spaces.Box(-9, 9, (2,), np.float32), "k": spaces.Discrete(3)})
    action_space = spaces.Box(-1, 1, (1,), np.float32)


EPISODES, STEPS = 6, 5


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)

    def episode(index: int) -> FlatEpisode:
        one_hot = np.eye(3, dtype=np.float32)[rng.integers(3, size=STEPS + 1)]
        return FlatEpisode(
            np.concatenate([one_hot, rng.normal(size=(STEPS + 1, 2)).astype(np.float32)], 1),
            rng.uniform(-1, 1, (STEPS, 1)).astype(np.float32),
            rng.normal(size=STEPS).astype(np.float32),
            terminated=index % 2 == 0,
            seed=100 + index,
            metadata={"policy": "even" if index % 2 == 0 else "odd", "index": index},
        )

    return write_dataset(
        tmp_path_factory.mktemp("data") / "plane",
        Plane(),
        map(episode, range(EPISODES)),
        description="",
        metadata={
            "collection": json.dumps(
                {"settings": {"env_id": "Plane-v0", "env_kwargs": {}}, "episodes": {"even": 3, "odd": 3}}
            )
        },
    )


def _put(group: h5py.Group, name: str, index: int, value: Any) -> None:
    array = group[name][()]
    array[index] = value
    group[name][...] = array


def _cut(group: h5py.Group, name: str) -> None:
    array = group[name][:-1]
    del group[name]
    group[name] = array


def _shorten_observations(group: h5py.Group) -> None:
    _cut(group, "observations/x")
    _cut(group, "observations/k")


def _reshape_actions(group: h5py.Group) -> None:
    del group["actions"]
    group["actions"] = np.zeros((STEPS, 3), np.float32)


def _without(name: str) -> Callable[[h5py.Group], None]:
    return lambda group: group.__delitem__(name)


FAULTS: dict[str, tuple[Callable[[h5py.Group], None], str]] = {
    "NaN observation": (lambda g: _put(g, "observations/x", 2, np.nan), "infinite observation at step 2"),
    "infinite reward": (lambda g: _put(g, "rewards", 3, np.inf), "NaN or infinite reward at step 3"),
    "NaN action": (lambda g: _put(g, "actions", 1, np.nan), "NaN or infinite action at step 1"),
    "an end inside": (lambda g: _put(g, "terminations", 1, True), "terminates at steps [1"),
    "an observation too few": (_shorten_observations, "5 observations"),
    "leaves of different lengths": (lambda g: _cut(g, "observations/x"), "cannot be read"),
    "an action too few": (lambda g: _cut(g, "actions"), "4 actions"),
    "a reward too few": (lambda g: _cut(g, "rewards"), "rewards of shape (4,)"),
    "a category that does not exist": (lambda g: _put(g, "observations/k", 0, 7), "category 7"),
    "no rewards": (_without("rewards"), "cannot be read"),
    "no observations": (_without("observations"), "cannot be read"),
    "a key missing": (_without("observations/k"), "cannot be read"),
    "another shape": (_reshape_actions, "shape"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_bad_episode_alone_is_left_out(tmp_path: Path, whole: Path, fault: str):
    damaged = tmp_path / "damaged"
    shutil.copytree(whole, damaged / "data")
    spoil, why = FAULTS[fault]
    with h5py.File(damaged / "data" / "main_data.hdf5", "a") as file:
        spoil(file["episode_2"])
    before = content_hash(damaged)
    with pytest.raises(DataError, match=r"episode 2 of .*") as told:
        Trajectories.from_minari(damaged / "data", cache=tmp_path / "cache")
    assert "`tdm data repair FOLDER --out NEW`" in str(told.value)
    done = repair(str(damaged), tmp_path / "new")
    assert content_hash(damaged) == before
    assert list(done.left_out) == [2]
    assert why in done.left_out[2]
    assert (done.kept, done.transitions) == (EPISODES - 1, (EPISODES - 1) * STEPS)
    info = describe(done.path)
    kept = [e for i, e in enumerate(read_episodes(describe(whole))) if i != 2]
    for old, new in zip(kept, read_episodes(info), strict=True):
        for name in ("observation", "action", "reward", "terminated"):
            np.testing.assert_array_equal(getattr(old, name), getattr(new, name))
    about = list(episode_metadata(info))
    assert [m["index"] for m in about] == [0, 1, 3, 4, 5]
    assert [m["seed"] for m in about] == [100, 101, 103, 104, 105]
    assert [m["id"] for m in about] == [0, 1, 2, 3, 4]
    raw = json.loads((done.path / "metadata.json").read_text())
    assert json.loads(raw["collection"])["episodes"] == {"even": 2, "odd": 3}
    assert raw["repaired"]["left_out"] == {"2": done.left_out[2]}
    assert Trajectories.from_minari(done.path).num_decisions == (EPISODES - 1) * STEPS


def test_nothing_is_lost_where_nothing_is_wrong(tmp_path: Path, whole: Path):
    done = repair(str(whole), tmp_path)
    assert (done.kept, dict(done.left_out)) == (EPISODES, {})


def test_what_cannot_be_repaired_is_refused(tmp_path: Path, whole: Path):
    shutil.copytree(whole, tmp_path / "a" / "data")
    with h5py.File(tmp_path / "a" / "data" / "main_data.hdf5", "a") as file:
        for group in file.values():
            _put(group, "rewards", 0, np.nan)
    with pytest.raises(DataError, match="none of the 6 episodes"):
        repair(str(tmp_path / "a"), tmp_path / "b")
    assert not (tmp_path / "b").exists()
    with pytest.raises(DataError, match="exists; choose another folder"):
        repair(str(whole), tmp_path / "a")


def test_the_command_says_what_it_left_out(tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]):
    shutil.copytree(whole, tmp_path / "a" / "data")
    with h5py.File(tmp_path / "a" / "data" / "main_data.hdf5", "a") as file:
        _put(file["episode_4"], "rewards", 0, np.nan)
    source, out = str(tmp_path / "a"), str(tmp_path / "b")
    assert main(["data", "info", source]) == 2
    assert "tdm data repair" in capsys.readouterr().err
    assert main(["data", "repair", source, "--out", out]) == 0
    said = capsys.readouterr().out
    assert "left out episode 4: has a NaN or infinite reward at step 0" in said
    assert "5 episodes with 25 transitions; 1 left out" in said
    assert main(["data", "info", out]) == 0
    config, again = str(tmp_path / "b" / "tdm-data.yaml"), str(tmp_path / "c")
    assert main(["data", "--config", config, "--out", again]) == 0
    assert (tmp_path / "c" / "data").is_dir()
    for words in (["repair", source], ["info", source, "--out", out], ["repair", source, "--out", out]):
        assert main(["data", *words]) == 2
