"""NumPy's integers wherever an int is taken: with the same result, and kept in files as Python's."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from tdm_agents import TDMAgent, evaluate, make_planner
from tdm_agents.actors.behaviour import RandomPolicy
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import EnvRef
from tdm_agents.evaluation.report import make_report, rows, write_report
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel

KINDS = [np.int8, np.int32, np.int64, np.uint16]


class Here:
    """Plays in this process."""

    def imap_unordered(self, function: Callable[[Any], Any], work: Iterable[Any]) -> Iterator[Any]:
        return map(function, work)


def _always_left(observation: Any) -> int:
    return 0


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation(tmp_path: Path, kind: type[np.integer[Any]]):
    plain = evaluate(_always_left, "CartPole-v1", [0, 1, 2], batch=2, max_steps=7, seed=3)
    seeds: Any = np.arange(3, dtype=kind)
    given = evaluate(_always_left, "CartPole-v1", seeds, batch=kind(2), max_steps=kind(7), seed=kind(3))
    assert given.scores == plain.scores == [7.0, 7.0, 7.0]
    assert [type(e.seed) for e in given.episodes] == [int] * 3
    report = make_report("left", given, settings={"max_steps": kind(7)})
    write_report(tmp_path / "report.json", report)
    assert json.loads((tmp_path / "report.json").read_text())["settings"] == {"max_steps": 7}


@pytest.mark.parametrize("kind", KINDS)
def test_an_agent_and_its_files(tmp_path: Path, kind: type[np.integer[Any]]):
    spec = spec_of(spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(2), action_repeat=kind(2))
    model = MLPWorldModel(spec, MLPConfig(hidden=kind(8), layers=kind(1)), seed=kind(0))
    planner = make_planner(
        "cem", horizon=kind(4), num_samples=kind(16), num_elites=kind(3), momentum=np.float32(0.25)
    )
    assert repr(planner) == repr(make_planner("cem", horizon=4, num_samples=16, num_elites=3, momentum=0.25))
    TDMAgent(model, planner, seed=kind(5), replan_every=kind(2)).save(tmp_path)
    loaded = TDMAgent.load(tmp_path, seed=kind(5))
    assert loaded.planner == planner
    assert loaded.model.spec == spec
    observation = np.zeros(3, np.float32)
    again = TDMAgent.load(tmp_path, seed=5, horizon=4)
    assert loaded.act(observation, episode_start=True) == again.act(observation, episode_start=True)


@pytest.mark.parametrize("kind", KINDS)
def test_collection_and_training_data(tmp_path: Path, kind: type[np.integer[Any]]):
    def dataset(of: Callable[[int], Any]) -> DatasetSpec:
        return DatasetSpec(
            env=EnvRef("CartPole-v1"),
            mix=((RandomPolicy(), of(2)),),
            action_repeat=of(2),
            seed=of(1),
            max_steps=of(9),
        )

    data = collect(dataset(kind), tmp_path / "numpy", pool=Here())
    assert collect(dataset(int), tmp_path / "numpy", pool=Here()) == data
    plain = collect(dataset(int), tmp_path / "plain", pool=Here())
    ours, theirs = (
        Trajectories.from_minari(path, action_repeat=repeat) for path, repeat in ((data, kind(2)), (plain, 2))
    )
    np.testing.assert_array_equal(ours.parts[0].observation, theirs.parts[0].observation)
    assert ours.spec == theirs.spec


@pytest.mark.parametrize(
    ("episodes", "environments", "shown"), [(1, 1, False), (2, 1, True), (3, 3, False), (4, 3, True)]
)
def test_a_single_episode_has_no_interval(episodes: int, environments: int, shown: bool):
    summary = {
        "episodes": episodes,
        "iqm": 22.6,
        "iqm_low": 20.0,
        "iqm_high": 25.0,
        "mean": 22.6,
        "milliseconds_per_decision": 1.0,
        "transitions_per_decision": 1.0,
    }
    (row,) = rows([{"contestant": "any", "summary": summary, "environments": [{}] * environments}])
    assert row[3] == ("20.0 to 25.0" if shown else "-")


def test_one_episode_in_a_report():
    report = make_report("left", evaluate(_always_left, "CartPole-v1", [0]), settings={})
    assert rows([report])[0][3] == "-"
