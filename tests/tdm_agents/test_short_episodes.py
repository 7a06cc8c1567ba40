"""Episodes of one step, and of none: what they hold is learned from, and they spoil nothing."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest
from gymnasium import spaces

from tdm_agents.data.decisions import changes_inside_blocks
from tdm_agents.data.minari_io import DataError, FlatEpisode, write_dataset
from tdm_agents.data.summary import summarise
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.data.windows import WindowSampler

ACTIONS: dict[str, spaces.Space[Any]] = {
    "box": spaces.Box(-1, 1, (2,), np.float32),
    "scalar box": spaces.Box(-1, 1, (), np.float32),
    "matrix box": spaces.Box(-1, 1, (2, 3), np.float32),
    "discrete": spaces.Discrete(3),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
}


class Spaces(gym.Env[Any, Any]):
    """Only its spaces are read."""

    def __init__(self, action_space: spaces.Space[Any]) -> None:
        self.observation_space = spaces.Box(-9, 9, (2,), np.float32)
        self.action_space = action_space


def _write(
    folder: Path, action_space: spaces.Space[Any], lengths: list[int], terminated: bool = True
) -> Path:
    """A data set of episodes of these lengths; a length of 0 is cut down on disk, as Minari writes none."""
    action_space.seed(0)
    rng = np.random.default_rng(0)
    episodes = [
        FlatEpisode(
            rng.normal(size=(max(steps, 1) + 1, 2)).astype(np.float32),
            np.stack([action_space.sample() for _ in range(max(steps, 1))]),
            rng.normal(size=max(steps, 1)).astype(np.float32),
            terminated,
            metadata={"policy": "any"},
        )
        for steps in lengths
    ]
    data = write_dataset(folder, Spaces(action_space), episodes, description="", metadata={})
    with h5py.File(data / "main_data.hdf5", "a") as file:
        for index, steps in enumerate(lengths):
            group = file[f"episode_{index}"]
            for name in ("observations", "actions", "rewards", "terminations", "truncations"):
                if not steps:
                    kept = group[name][: 1 if name == "observations" else 0]
                    del group[name]
                    group[name] = kept
    text = (data / "metadata.json").read_text()
    was, now = sum(max(s, 1) for s in lengths), sum(lengths)
    (data / "metadata.json").write_text(text.replace(f'"total_steps": {was}', f'"total_steps": {now}'))
    return data


@pytest.mark.parametrize("shape", [(1,), (1, 2), (1, 2, 3), (0, 2), (0,), (5,), (5, 2), (2, 0)])
@pytest.mark.parametrize("repeat", [1, 4])
def test_changes_inside_blocks_of_any_shape(shape: tuple[int, ...], repeat: int):
    action = np.arange(np.prod(shape)).reshape(shape)
    changes = [] if not action.size else [t for t in range(1, len(action)) if t % repeat]
    assert changes_inside_blocks(action, action_repeat=repeat).tolist() == changes


@pytest.mark.parametrize("kind", ACTIONS)
@pytest.mark.parametrize("lengths", [[1], [1, 1, 1], [1, 5, 0, 1, 0], [0, 2], [5, 0]])
def test_every_step_of_short_episodes_is_kept(tmp_path: Path, kind: str, lengths: list[int]):
    data = _write(tmp_path, ACTIONS[kind], lengths)
    trajectories = Trajectories.from_minari(data)
    assert trajectories.num_decisions == sum(lengths)
    assert [len(d.reward) - 1 for d in trajectories.iterate()] == [n for n in lengths if n]
    batch = WindowSampler(trajectories, steps=3, batch_size=8, seed=0).batch(0)
    assert bool(batch.acted[:, 0].all())
    assert summarise(data).transitions == sum(lengths)


@pytest.mark.parametrize("kind", ACTIONS)
@pytest.mark.parametrize("lengths", [[0], [0, 0]])
def test_data_without_a_step_are_refused_by_name(tmp_path: Path, kind: str, lengths: list[int]):
    data = _write(tmp_path, ACTIONS[kind], lengths)
    for read in (Trajectories.from_minari, summarise):
        with pytest.raises(DataError, match=str(data)):
            read(data)


def test_episodes_shorter_than_a_decision_are_refused_where_there_are_no_others(tmp_path: Path):
    data = _write(tmp_path, spaces.Discrete(2), [3, 1], terminated=False)
    with h5py.File(data / "main_data.hdf5", "a") as file:
        for group in file.values():
            group["actions"][:] = 1
    with pytest.raises(DataError, match=r"none of the 2 episodes .* lasts one decision of 4"):
        Trajectories.from_minari(data, action_repeat=4)
