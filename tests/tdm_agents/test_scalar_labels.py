"""The scalars of an observation are called by keys and indices, in tables, plots and errors."""

from multiprocessing.pool import ThreadPool

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from matplotlib.figure import Figure
from my_drive import LABELS, MyDrive

from tdm_agents.actors.behaviour import RandomPolicy
from tdm_agents.cli import data as data_command
from tdm_agents.cli.main import main
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.data import summary_plot
from tdm_agents.data.summary import summarise
from tdm_agents.environments import EnvRef
from tdm_agents.spaces import ObservationCodec
from tdm_agents.spaces.scalar_labels import scalar_labels
from tdm_agents.spaces.scalar_names import labels_of

BOX = spaces.Box(-1, 1, (2,))
SPACES = {
    "an array": (BOX, ["0", "1"]),
    "a matrix": (spaces.Box(-1, 1, (2, 2)), ["[0, 0]", "[0, 1]", "[1, 0]", "[1, 1]"]),
    "numbers without an axis": (spaces.Dict(a=spaces.Box(-1, 1, ())), ["a"]),
    "nested": (spaces.Dict(arm=spaces.Dict(tip=BOX)), ["arm.tip[0]", "arm.tip[1]"]),
    "a tuple": (spaces.Tuple([BOX, spaces.MultiBinary(1)]), ["0[0]", "0[1]", "1[0]"]),
    "categories": (spaces.Dict(gear=spaces.Discrete(3, start=-1)), ["gear=-1", "gear=0", "gear=1"]),
    "several": (spaces.MultiDiscrete([1, 2]), ["0=0", "1=0", "1=1"]),
    "a driver": (MyDrive().observation_space, list(LABELS)),
}


@pytest.mark.parametrize(("space", "labels"), SPACES.values(), ids=SPACES)
def test_a_space_says_what_its_scalars_are(space, labels):
    assert list(scalar_labels(space)) == labels
    assert len(labels) == ObservationCodec(space).dim


def test_what_the_environment_says_counts_more():
    suite = gym.make("tdm_envs:tdm/Suite-v0", domain="cartpole", task="swingup")
    assert labels_of(suite)[0] == suite.get_wrapper_attr("observation_names")[0]
    assert scalar_labels(BOX, ("left", "right")) == ("left", "right")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    gym.register("LabelDrive-v0", entry_point=MyDrive, max_episode_steps=5)
    folder = tmp_path_factory.mktemp("data")
    with ThreadPool(1) as pool:
        collect(DatasetSpec(env=EnvRef("LabelDrive-v0"), mix=((RandomPolicy(), 3),)), folder, pool=pool)
    yield folder / "data"
    gym.registry.pop("LabelDrive-v0")


def test_tables_name_scalars(data, capsys):
    assert main(["data", "info", str(data)]) == 0
    told = capsys.readouterr().out
    assert all(f" {label} " in told for label in LABELS)
    assert data_command.to_json(summarise(data))["observation"]["names"] == list(LABELS)


def test_plots_name_scalars(data):
    axis = Figure().subplots()
    summary_plot._ranges(axis, "observation", [summarise(data).observation])
    assert [tick.get_text() for tick in axis.get_xticklabels()] == list(LABELS)


def test_errors_name_scalars():
    env = MyDrive()
    observation, _ = env.reset(seed=0)
    with pytest.raises(ValueError, match=r"observation scalar heading\[1\] is nan"):
        ObservationCodec(env.observation_space).flatten(observation | {"heading": np.float32([1, np.nan])})
