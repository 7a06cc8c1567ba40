"""Agents whose model is a wrapper around models: they are saved, loaded and uploaded with all their parts."""

import json
import shutil

import pytest
import torch
from stable_baselines3 import PPO

from tdm_agents import TDMAgent, make_planner
from tdm_agents.actors.enter import enter
from tdm_agents.actors.entries import parse_entry
from tdm_agents.agent import hub
from tdm_agents.agent.agent_files import load_model, resolve
from tdm_agents.environments import EnvRef
from tdm_agents.errors import WrongValueError
from tdm_agents.storage import CheckpointError
from tdm_agents.wrappers import WithProposal, WithValue

ENV_ID = "dm_control/cartpole-swingup-v0"
OBSERVATION = {"position": [0.1, -1.0, 0.0], "velocity": [0.0, 0.2]}


def decided(agent):
    agent.reset(seed=0)
    return agent.act(OBSERVATION).tolist()


@pytest.fixture(scope="module")
def fast():
    return TDMAgent.load("cartpole-swingup-fast")


def test_the_shipped_one_is_the_shipped_tdm_with_the_shipped_value(fast):
    near = TDMAgent.load("cartpole-swingup", horizon=5, num_samples=16, iterations=1, discount=0.99)
    value = load_model(resolve("cartpole-swingup-value"))
    agent = TDMAgent(WithValue(near.base_model, value), near.planner, env_id=ENV_ID, reward_function=ENV_ID)
    assert fast.planner == near.planner and decided(fast) == decided(agent)


def test_a_saved_agent_decides_the_same_without_the_folders_that_it_came_from(fast, tmp_path):
    fast.save(tmp_path / "agent")
    fast.save(tmp_path / "agent")  # a checkpoint is replaced
    shutil.move(tmp_path / "agent", tmp_path / "elsewhere")
    again = TDMAgent.load(tmp_path / "elsewhere")
    assert isinstance(again.base_model, WithValue) and decided(again) == decided(fast)


def test_a_proposal_is_saved_with_its_noise(fast, tmp_path):
    iql = load_model(resolve("cartpole-swingup-value"))
    model = WithValue(WithProposal(iql, iql, std=0.25), iql)
    TDMAgent(model, make_planner("mppi", num_policy=2, horizon=3)).save(tmp_path)
    again = TDMAgent.load(tmp_path).base_model
    assert isinstance(again.model, WithProposal) and again.model.std == 0.25


@pytest.mark.parametrize("part", ["model", "value"])
def test_another_part_than_was_saved_is_refused(fast, tmp_path, part):
    fast.save(tmp_path)
    other = resolve("cartpole-swingup-step-transformer")
    for name in ("model.json", "weights.safetensors"):
        shutil.copy(other / name, tmp_path / part / name)
    with pytest.raises(CheckpointError, match="does not agree with its parts"):
        TDMAgent.load(tmp_path)
    shutil.rmtree(tmp_path / part)
    with pytest.raises(CheckpointError, match=f"{part}.*is missing"):
        TDMAgent.load(tmp_path)


def test_a_folder_that_is_named_otherwise_is_refused(fast, tmp_path):
    fast.save(tmp_path)
    told = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(told | {"parts": {"model": 5, "value": "value"}}))
    with pytest.raises(CheckpointError, match="does not agree"):
        TDMAgent.load(tmp_path)


def test_a_function_as_critic_cannot_be_saved(fast, tmp_path):
    model = WithValue(fast.base_model.model, lambda observation: torch.zeros(len(observation)))
    agent = TDMAgent(model, fast.planner)
    with pytest.raises(
        WrongValueError, match=r"the value is a function; expected a world model with weights"
    ):
        agent.save(tmp_path / "agent")
    assert not (tmp_path / "agent" / "model.json").exists()


def test_a_policy_of_stable_baselines_cannot_be_saved_though_it_has_a_save(fast, tmp_path):
    policy = PPO("MultiInputPolicy", EnvRef(ENV_ID).make())
    agent = TDMAgent(WithValue(fast.base_model.model, policy), fast.planner)
    with pytest.raises(WrongValueError, match="the value is a PPO; expected a world model with weights"):
        agent.save(tmp_path / "agent")
    assert not (tmp_path / "agent/value").exists()


def test_sums_of_an_upload_include_the_parts(fast, tmp_path):
    fast.save(tmp_path)
    hub.write_sums(tmp_path)
    hub.check_sums(tmp_path)
    assert "  value/weights.safetensors\n" in (tmp_path / hub.SUMS_FILE).read_text()
    (tmp_path / "value" / "weights.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="another file than was uploaded"):
        hub.check_sums(tmp_path)


def test_tables_say_what_the_model_is(fast):
    entered = enter(parse_entry("cartpole-swingup-fast"), EnvRef(ENV_ID))
    assert entered.name == "mppi on TransformerWorldModel with a value"
