"""Context, horizon and evaluation suit the environment's sizes, unless the user chose them."""

import dataclasses
import io
import json

import gymnasium as gym
import numpy as np
import pytest
from my_drive import MyDrive
from rich.console import Console

from tdm_agents.cli import train as command
from tdm_agents.data.minari_io import FlatEpisode, write_dataset
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.protocols import Suggests
from tdm_agents.registry import make_planner
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.training.suiting import evaluated, fitting_evaluation, long_histories, within_episodes
from tdm_agents.training.train_config import TrainConfig
from tdm_agents.world_models.mlp import MLPWorldModel
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.presets import CONFIGS

TINY = {"layers": "1", "width": "16", "heads": "2", "feedforward": "16", "tokenizer.bins": "32"}


def write(folder, lengths):
    """Episodes of these lengths, in decisions."""
    env = MyDrive()
    rng = np.random.default_rng(0)
    episodes = []
    for steps in lengths:
        observation = rng.normal(size=(steps + 1, 7)).astype(np.float32)
        observation[:, 3:5] = [1, 0]  # the gear
        action = rng.uniform(env.action_space.low, env.action_space.high, (steps, 2)).astype(np.float32)
        episodes.append(FlatEpisode(observation, action, np.ones(steps, np.float32), True))
    return write_dataset(folder, env, episodes, description="", metadata={"env_id": "my_drive:MyDrive-v0"})


def spec():
    env = MyDrive()
    return spec_of(env.observation_space, env.action_space)


def test_a_preset_is_given_four_steps_and_a_larger_context_stays():
    assert isinstance(TransformerWorldModel, Suggests) and not isinstance(MLPWorldModel, Suggests)
    config, told = TransformerWorldModel.suggested(CONFIGS["small"], {"drive": spec()})
    assert config == dataclasses.replace(CONFIGS["small"], context=44)  # 7 + 2 + 2 tokens
    assert "24 tokens holds 2 steps of 11 tokens" in told and "becomes 44" in told
    assert TransformerWorldModel.suggested(config, {"drive": spec()}) == (config, "")


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([60] * 4, ((1, 5, 10, 25), 64, 8)),
        ([10] * 20, ((1, 5), 64, 2)),
        ([3] * 10, ((1,), 16, 2)),
        ([1], ((1,), 1, 1)),
    ],
)
def test_the_prediction_error_is_measured_where_episodes_allow(tmp_path, lengths, expected):
    data = Trajectories.from_minari(write(tmp_path / "data", lengths))
    config, told = fitting_evaluation(TrainConfig(), {"drive": data})
    found = (config.horizons, config.starts, config.context_steps)
    assert found == expected
    assert bool(told) == (config != TrainConfig())
    horizons, starts, context = found
    assert sum(max(n + 1 - context - max(horizons) + 1, 0) for n in lengths) >= starts
    chosen = TrainConfig(starts=63)
    assert fitting_evaluation(chosen, {"drive": data}) == (chosen, [])


def test_nobody_plans_beyond_the_longest_episode(tmp_path):
    data = {"drive": Trajectories.from_minari(write(tmp_path / "data", [3, 9]))}
    planner, told = within_episodes(make_planner("cem", horizon=25), data)
    assert planner == make_planner("cem", horizon=9) and "has 9 decisions" in told[0]
    assert within_episodes(planner, data) == (planner, [])


def train(tmp_path, out="run", **changes):
    written = io.StringIO()
    args = command.Train(
        data=(tmp_path / "data",),
        out=tmp_path / out,
        action_repeat=1,
        held_out_fraction=0.5,
        model_settings=TINY,
        training=TrainConfig(steps=2, batch_size=2, window_steps=3, evaluate_batches=1),
    )
    command.run(dataclasses.replace(args, **changes), console=Console(file=written, width=1000))
    config = json.loads((args.out.parent / out / "model.json").read_text())["config"]
    agent = json.loads((args.out.parent / out / "agent.json").read_text())
    return written.getvalue(), config["context"], agent["planner"]["settings"]["horizon"]


@pytest.fixture
def short(tmp_path):
    gym.register("MyDrive-v0", entry_point=MyDrive)
    write(tmp_path / "data", [6] * 8)
    yield tmp_path
    gym.registry.pop("MyDrive-v0")


def test_a_training_on_short_episodes_says_what_it_changes(short):
    told, context, horizon = train(short)
    assert (context, horizon) == (44, 6)
    assert "it becomes 44, 4 steps" in told and "plans 6 ahead, not 25" in told
    assert "4 held-out episodes of at most 6 decisions: the prediction error is measured 1" in told
    again, _, _ = train(short)  # goes on: there is nothing left to do
    assert "it becomes 44" in again


def test_what_the_user_chose_stays(short):
    told, context, _ = train(short, model_settings=TINY | {"context": "22"})
    assert context == 22 and "it becomes" not in told
    with pytest.raises(ValueError, match=r"held-out episodes do not suffice"):
        train(short, "other", suit_sizes=False)


def test_a_run_that_began_without_goes_on_without(short):
    few = TrainConfig(
        steps=2, batch_size=2, window_steps=3, evaluate_batches=1, horizons=(1,), starts=2, context_steps=2
    )
    assert train(short, suit_sizes=False, training=few)[1] == 24
    assert train(short, training=dataclasses.replace(few, evaluate_every=9))[1] == 24


def test_of_many_environments_some_are_evaluated_evenly_chosen():
    held_out = {str(number): None for number in range(1000)}
    chosen, told = evaluated(TrainConfig(evaluate_environments=4), held_out)
    assert list(chosen) == ["0", "250", "500", "750"] and "4 of 1,000 environments" in told[0]
    assert evaluated(TrainConfig(evaluate_environments=1000), held_out) == (held_out, [])


def test_histories_that_no_window_holds_are_told(tmp_path):
    data = {"drive": Trajectories.from_minari(write(tmp_path, [30] * 4))}
    model = TransformerWorldModel(spec(), dataclasses.replace(CONFIGS["small"], context=20 * 11))
    (told,) = long_histories(model, TrainConfig(window_steps=12), data)
    assert told.startswith("the model reads histories of up to 20 steps, and learns from windows of 12")
    assert long_histories(model, TrainConfig(window_steps=20), data) == []
    short = {"drive": Trajectories.from_minari(write(tmp_path / "short", [11] * 4))}
    assert long_histories(model, TrainConfig(window_steps=12), short) == []
