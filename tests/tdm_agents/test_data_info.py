import errno
import json
from multiprocessing.pool import ThreadPool
from pathlib import Path

import gymnasium as gym
import minari
import numpy as np
import pytest
from matplotlib.image import imread
from minari.data_collector import EpisodeBuffer

from tdm_agents.actors.behaviour import RandomPolicy
from tdm_agents.cli.main import main
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.data.index import data_sets
from tdm_agents.data.minari_io import DataError, FlatEpisode, describe, read_episodes, write_dataset
from tdm_agents.data.summary import UNKNOWN_POLICY, summarise
from tdm_agents.data.summary_plot import plot_summaries
from tdm_agents.environments import EnvRef

MIX = ((RandomPolicy(), 3), (RandomPolicy("bold", min_scale=2.0), 2))
BODY = {"dof": 5, "body": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two environments, and the folder with their index."""
    datasets = [
        DatasetSpec(name="pendulum", env=EnvRef("Pendulum-v1"), mix=MIX, max_steps=20),
        DatasetSpec(
            name="tree", env=EnvRef("tdm/WalkerTree-v0", {"dof": 5, "body": 3}), mix=MIX, max_steps=30
        ),
    ]
    with ThreadPool(1) as pool:
        return collect(datasets, tmp_path_factory.mktemp("data") / "both", pool=pool)


def test_a_summary_is_what_a_reader_of_the_arrays_finds(folder):
    path = data_sets(folder)[0]
    episodes = list(read_episodes(describe(path)))
    found = summarise(path)
    assert found.environment == "Pendulum-v1" and found.transitions == 5 * 20 and found.terminated == 0
    assert found.steps.tolist() == [20] * 5 and found.replaced == 0
    returns = [float(e.reward.sum(dtype=np.float64)) for e in episodes]
    assert {name: values.tolist() for name, values in found.returns.items()} == {
        "random": returns[:3],
        "bold": returns[3:],
    }
    observation = np.concatenate([e.observation[:-1] for e in episodes]).astype(np.float64)
    action = np.concatenate([e.action for e in episodes]).astype(np.float64)
    for rows, ranges in ((observation, found.observation), (action, found.action)):
        np.testing.assert_array_equal(ranges.low, rows.min(0))
        np.testing.assert_array_equal(ranges.high, rows.max(0))
        np.testing.assert_allclose(ranges.mean, rows.mean(0), atol=1e-12)
        np.testing.assert_allclose(ranges.std, rows.std(0), atol=1e-12)
    # torques are in [-2, 2]
    np.testing.assert_allclose(found.at_bounds, (np.abs(action) == 2).mean(0))
    assert 0 < found.at_bounds[0] < 1
    assert found.bytes == sum(file.stat().st_size for file in path.iterdir())


def test_terminations_and_replaced_episodes_are_counted(tmp_path):
    env = gym.make("Pendulum-v1")
    episodes = [
        FlatEpisode(
            observation=np.zeros((steps + 1, 3), np.float32),
            action=np.zeros((steps, 1), np.float32),
            reward=np.ones(steps, np.float32),
            terminated=steps > 2,
            metadata={"failures": '["why"]'} if steps == 1 else {},
        )
        for steps in (1, 2, 3, 4)
    ]
    found = summarise(write_dataset(tmp_path, env, episodes, description="", metadata={}))
    assert (found.terminated, found.replaced, found.steps.tolist()) == (2, 1, [1, 2, 3, 4])
    assert found.returns[UNKNOWN_POLICY].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert found.observation.std.tolist() == [0, 0, 0]


def test_data_of_others_with_discrete_actions_are_summarised(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = gym.make("CartPole-v1")
    buffer = EpisodeBuffer(
        observations=np.zeros((4, 4), np.float32),
        actions=np.array([0, 1, 1]),
        rewards=[1.0] * 3,
        terminations=[False, False, True],
        truncations=[False] * 3,
    )
    minari.create_dataset_from_buffers("cartpole/others-v0", [buffer], env=env)
    (path,) = data_sets("cartpole/others-v0")
    found = summarise(path)
    assert found.at_bounds is None and found.terminated == 1
    assert (found.action.low.tolist(), found.action.high.tolist()) == ([0.0], [1.0])
    capsys.readouterr()
    assert main(["data", "info", "cartpole/others-v0", "--plot", str(tmp_path / "p.png")]) == 0
    assert "actions at a bound  -" in capsys.readouterr().out


def test_a_single_data_set_is_told_scalar_by_scalar(folder, capsys):
    assert main(["data", "info", str(folder / "tree")]) == 0
    told = capsys.readouterr().out
    assert "tdm/WalkerTree-v0 body=3 dof=5" in told
    assert "observation: ranges" in told and "action: ranges" in told and "bold" in told


def test_an_index_is_told_as_a_whole_and_drawn(folder, capsys, tmp_path):
    picture = tmp_path / "new" / "data.png"
    assert main(["data", "info", str(folder), "--plot", str(picture)]) == 0
    told = capsys.readouterr().out
    assert "2 data sets" in told and "pendulum" in told and "tree" in told
    row = next(line.replace("│", " ").split() for line in told.splitlines() if " all " in line)
    assert row[:3] == ["all", "10", "250"]
    assert imread(picture).std() > 0.05, "nothing is drawn"


def test_the_ranges_of_every_data_set_of_an_index_are_told(folder, capsys):
    assert main(["data", "info", str(folder)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for path in data_sets(folder):
        found = summarise(path)
        for what, ranges in (("observation", found.observation), ("action", found.action)):
            each = zip(ranges.names, ranges.low, ranges.high, strict=True)
            spans = [f"{name} {low:.3g}..{high:.3g}" for name, low, high in each]
            assert f"{path.parent.name}, {what}: {' '.join(spans)}" in told


@pytest.mark.parametrize("columns", [80, 50])
def test_no_count_is_cut_off_in_a_narrow_terminal(columns, tmp_path, capsys, monkeypatch):
    names = ["random", "walker-line", "walker-chain", "walker-bush", "walker-tree"]
    mix = tuple((RandomPolicy(name), 3) for name in names)
    with ThreadPool(1) as pool:
        dataset = DatasetSpec(env=EnvRef("Pendulum-v1"), mix=mix, max_steps=3)
        collect(dataset, tmp_path / "out", pool=pool)
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["data", "info", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "…" not in told
    table = told.split("episodes by return")[1].split("└")[0]
    cells = [line.split("│")[2:-1] for line in table.splitlines() if line.startswith("│")]
    counts = [sum(int(cell.strip("█ ") or 0) for cell in column) for column in zip(*cells, strict=True)]
    assert counts == [3] * len(names)


def test_a_plot_that_cannot_be_written_leaves_nothing(folder, tmp_path, monkeypatch):
    def full(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match=r"No space left on device: .*p\.png"):
        plot_summaries(tmp_path / "p.png", [summarise(path) for path in data_sets(folder)])
    assert not list(tmp_path.iterdir())


def test_the_same_as_json(folder, capsys):
    assert main(["data", "info", str(folder), "--json"]) == 0
    pendulum, tree = json.loads(capsys.readouterr().out)
    assert (pendulum["transitions"], tree["episodes"]) == (100, 5)
    assert len(tree["observation"]["low"]) == 13 + 2 * 5 and len(tree["at_bounds"]) == 5


def test_mistakes_are_one_line(folder, capsys, tmp_path):
    assert main(["data", "info", str(tmp_path / "nowhere")]) == 2
    assert "no Minari data set" in capsys.readouterr().err
    assert main(["data", "info", str(folder), "--plot", str(tmp_path)]) == 2
    assert "--plot" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no data sets"):
        plot_summaries(tmp_path / "p.png", [])


def test_a_data_set_without_episodes_is_refused(tmp_path):
    empty = write_dataset(tmp_path, gym.make("Pendulum-v1"), [], description="", metadata={})
    with pytest.raises(DataError, match="has no episodes"):
        summarise(empty)
