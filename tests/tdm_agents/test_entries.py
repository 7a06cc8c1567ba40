"""Who plays and where, in one line of text."""

import numpy as np
import pytest

from tdm_agents.actors.enter import enter, environment_of
from tdm_agents.actors.entries import Entry, parse_entry
from tdm_agents.actors.functions import UniformActions
from tdm_agents.agent import TDMAgent
from tdm_agents.environments import EnvRef
from tdm_agents.settings_text import parse_settings
from tdm_agents.wrappers import WithoutAlive

CARTPOLE = "dm_control/cartpole-swingup-v0"
SHIPPED = "cartpole-swingup"


@pytest.mark.parametrize(
    ("text", "kind", "source", "options"),
    [
        ("cartpole-swingup", "checkpoint", "cartpole-swingup", {}),
        (
            "runs/mlp planner=cem num-samples=64",
            "checkpoint",
            "runs/mlp",
            {"planner": "cem", "num_samples": 64},
        ),
        (
            "simulator planner=mppi horizon=25",
            "simulator",
            "",
            {"planner": "mppi", "horizon": 25},
        ),
        ("models/a.zip deterministic=false", "policy", "models/a.zip", {"deterministic": False}),
        ("random", "random", "", {}),
        ("./random", "checkpoint", "./random", {}),
    ],
)
def test_a_line_says_who_plays_and_is_its_own_label(text, kind, source, options):
    assert parse_entry(text) == Entry(kind, source, options, text)


def test_a_label_may_hold_spaces():
    entry = parse_entry("random label='Nobody, really'")
    assert (entry.label, entry.options) == ("Nobody, really", {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            r"does not begin with who plays: a checkpoint, a \.zip .*, simulator, expert, or random",
        ),
        ("planner=mppi", "does not begin with who plays"),
        ("random now", "'now' in 'random now' is not NAME=VALUE, for example planner=mppi"),
        ("random seed=3", r"entry 'random seed=3' has no option 'seed'; a random takes label"),
        ("a.zip planner=mppi", "has no option 'planner'; a policy takes deterministic, action_repeat"),
        ("simulator horizon=3", "a simulator needs a planner: planner=NAME"),
        ("random label='x", "close every quote"),
    ],
)
def test_a_line_that_cannot_be_read_says_what_was_expected(text, message):
    with pytest.raises(ValueError, match=message):
        parse_entry(text)


def test_settings_are_json_or_text():
    parsed = parse_settings({"num-samples": "64", "execute": "mean", "noise_beta": "null"})
    assert parsed == {"num_samples": 64, "execute": "mean", "noise_beta": None}


def test_each_environment_may_have_a_file_of_its_own():
    entry = parse_entry("runs/{env}/sac.zip vec_normalize=runs/{env}.pkl")
    filled = entry.in_environment(EnvRef(CARTPOLE))
    assert filled.source == "runs/dm_control-cartpole-swingup-v0/sac.zip"
    assert filled.options == {"vec_normalize": "runs/dm_control-cartpole-swingup-v0.pkl"}
    assert filled.label == entry.label


def test_a_checkpoint_plays_with_another_planner_and_settings():
    entry = parse_entry(f"{SHIPPED} planner=cem num_samples=12 replan_every=2 reward_function=predicted")
    assert environment_of(entry) == EnvRef(CARTPOLE)
    entered = enter(entry, EnvRef(CARTPOLE))
    agent = entered.contestant
    assert isinstance(agent, TDMAgent)
    assert (agent.planner.num_samples, agent.replan_every, agent.reward_function) == (12, 2, None)
    assert entered.name == "cem on TransformerWorldModel"
    assert entered.settings["planner_settings"] is agent.planner
    assert [f.name for f in entered.files] == ["weights.safetensors", "model.json"]


def test_the_simulator_takes_after_a_checkpoint():
    agent = TDMAgent.load(SHIPPED)
    entered = enter(parse_entry(f"simulator like={SHIPPED} num_samples=7"), EnvRef(CARTPOLE))
    settings = entered.settings
    assert settings["planner"] == "mppi" and settings["planner_settings"].num_samples == 7
    assert settings["action_repeat"] == agent.model.spec.action_repeat == 4
    assert settings["reward_function"] == agent.reward_function
    other = enter(
        parse_entry(f"simulator like={SHIPPED} action_repeat=2 reward_function=predicted"), EnvRef(CARTPOLE)
    )
    assert other.settings["action_repeat"] == 2 and other.settings["reward_function"] is None
    assert environment_of(parse_entry("simulator planner=cem")) is None


def test_random_plays_in_the_environments_own_units():
    entered = enter(Entry("random"), EnvRef("Pendulum-v1"), seed=3)
    assert isinstance(entered.contestant, UniformActions)
    assert np.abs([entered.contestant(None) for _ in range(99)]).max() > 1.5


def test_a_checkpoint_can_play_as_if_no_episode_ended():
    entered = enter(parse_entry(f"{SHIPPED} alive=false num_samples=3"), EnvRef(CARTPOLE))
    agent = entered.contestant
    assert isinstance(agent, TDMAgent)
    assert isinstance(agent.base_model, WithoutAlive)
    assert (agent.planner.num_samples, agent.reward_function) == (3, CARTPOLE)
    assert entered.name == "mppi on TransformerWorldModel without alive"
    assert entered.settings["alive"] is False
    with pytest.raises(ValueError, match="alive is 'no'; expected true, or false"):
        enter(parse_entry(f"{SHIPPED} alive=no"), EnvRef(CARTPOLE))
