import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from tdm_agents import TDMAgent, TransformerWorldModel, make_planner
from tdm_agents.agent import agent_files
from tdm_agents.agent.agent_files import AgentSettings
from tdm_agents.protocols import ModelSpec
from tdm_agents.storage import CheckpointError
from tdm_agents.testing import LinearQuadraticModel
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel
from tdm_agents.world_models.transformer.config import TransformerConfig

CARTPOLE = "dm_control/cartpole-swingup-v0"
SPEC = ModelSpec(
    observation_space=spaces.Box(-np.inf, np.inf, (5,), np.float32),
    action_space=spaces.Box(-1, 1, (1,), np.float32),
    observation_dim=5,
    action_dim=1,
    action_repeat=2,
)


def a_transformer():
    torch.manual_seed(4)  # its weights are drawn from torch's global generator
    model = TransformerWorldModel(SPEC, TransformerConfig(layers=1, width=16, heads=2, feedforward=16))
    data = torch.randn(64, 5)
    model.tokenizer.fit(data, 0.1 * data, data[:, 0])
    return model.eval()


def an_agent(model=None, **more):
    model = model or MLPWorldModel(SPEC, MLPConfig(hidden=8, layers=1), seed=4)
    planner = make_planner("cem", horizon=4, num_samples=8, num_elites=3, iterations=2)
    return TDMAgent(model, planner, seed=1, **more)


def play(agent):
    agent.reset()
    return np.stack([agent.act(o) for o in np.random.default_rng(0).normal(size=(5, 5))])


@pytest.fixture
def folder(tmp_path):
    an_agent(env_id=CARTPOLE).save(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("make_model", [lambda: None, a_transformer])
@pytest.mark.parametrize("reward", [None, CARTPOLE])
def test_a_loaded_agent_acts_as_the_saved_one(tmp_path, reward, make_model):
    agent = an_agent(make_model(), env_id=CARTPOLE, reward_function=reward)
    agent.save(tmp_path)
    loaded = TDMAgent.load(tmp_path, seed=1)
    np.testing.assert_array_equal(play(agent), play(loaded))
    assert loaded.planner == agent.planner
    assert (loaded.env_id, loaded.reward_function) == (CARTPOLE, reward)


def test_a_setting_of_a_former_name_is_read_in_silence_and_saved_by_its_present_one(folder, recwarn):
    path = folder / "agent.json"
    value = json.loads(path.read_text())
    settings = value["planner"]["settings"]
    settings["returns"] = "mean"
    del settings["execute"]
    path.write_text(json.dumps(value | {"schema": 1}))
    agent = TDMAgent.load(folder)
    assert agent.planner.execute == "mean"
    assert not [w for w in recwarn.list if w.category is DeprecationWarning]
    agent.save(folder)
    saved = json.loads(path.read_text())
    assert saved["schema"] == 2 and saved["planner"]["settings"]["execute"] == "mean"
    with pytest.warns(DeprecationWarning):  # what a user types is told to them
        assert TDMAgent.load(folder, returns="sample").planner.execute == "sample"


def test_a_named_reward_function_is_what_is_planned_for(tmp_path):
    agent = an_agent()
    agent.save(tmp_path)
    assert not np.array_equal(play(agent), play(an_agent(reward_function=CARTPOLE)))


def test_an_unknown_reward_function_is_refused():
    with pytest.raises(LookupError, match="nonsense"):
        an_agent(reward_function="nonsense")


def test_agent_json_has_a_stable_layout(folder):
    value = json.loads((folder / "agent.json").read_text())
    assert list(value) == ["schema", "planner", "reward_function", "env_id", "replan_every", "deadline"]
    assert value["schema"] == 2 and value["planner"]["name"] == "cem"
    assert value["planner"]["settings"]["num_samples"] == 8
    assert not list(folder.glob("*.p*k*"))


def test_settings_and_planner_can_be_chosen_when_loading(folder):
    assert TDMAgent.load(folder, num_samples=20).planner == replace(an_agent().planner, num_samples=20)
    assert TDMAgent.load(folder, "cem", horizon=3).planner.num_samples == 8
    other = TDMAgent.load(folder, "random_shooting").planner
    assert other == make_planner("random_shooting", horizon=4)
    assert TDMAgent.load(folder, "random_shooting", horizon=9).planner.horizon == 9
    ready = make_planner("mppi", horizon=2)
    assert TDMAgent.load(folder, ready).planner is ready


def test_wrong_choices_when_loading_are_refused(folder):
    with pytest.raises(LookupError, match="did you mean 'cem'"):
        TDMAgent.load(folder, "cemm")
    with pytest.raises(TypeError, match="no setting 'samples'"):
        TDMAgent.load(folder, samples=3)
    with pytest.raises(TypeError, match="already built"):
        TDMAgent.load(folder, make_planner("cem"), horizon=3)


@pytest.mark.parametrize("name", ["agent.json", "model.json", "weights.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        TDMAgent.load(folder)


@pytest.mark.parametrize("name", ["agent.json", "model.json", "weights.safetensors"])
def test_a_truncated_file_is_refused(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match=name):
        TDMAgent.load(folder)


def test_altered_weights_are_refused(folder):
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="sha256"):
        TDMAgent.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"planner": "cem"},
        {"planner": {"name": 3, "settings": {}}},
        {"planner": {"name": "cem", "settings": []}},
        {"reward_function": 3},
        {"env_id": ["a"]},
        {"schema": 3},
    ],
)
def test_an_agent_file_that_makes_no_sense_is_refused(folder, change):
    path = folder / "agent.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=r"agent\.json"):
        TDMAgent.load(folder)


@pytest.mark.parametrize("text", ["[]", "{}", '"type"'])
def test_a_model_file_without_a_type_is_refused(folder, text):
    (folder / "model.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"model\.json"):
        TDMAgent.load(folder)


def test_a_model_of_a_package_that_is_not_installed_is_named(folder):
    (folder / "model.json").write_text('{"schema": 1, "type": "transformr"}')
    with pytest.raises(LookupError, match="did you mean 'transformer'"):
        TDMAgent.load(folder)


def test_a_model_without_weights_cannot_be_saved(tmp_path):
    agent = TDMAgent(LinearQuadraticModel(), make_planner("cem"))
    with pytest.raises(ValueError, match=r"LinearQuadraticModel has no save\(\)"):
        agent.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_planner_without_a_name_cannot_be_saved(tmp_path):
    @dataclass(frozen=True)
    class Nameless(type(make_planner("cem"))):
        pass

    agent = TDMAgent(MLPWorldModel(SPEC), Nameless())
    with pytest.raises(ValueError, match=r"Nameless has no name.*entry point"):
        agent.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_sequences_among_settings_come_back_immutable(tmp_path):
    saved = AgentSettings("mine", {"widths": (1, 2), "nested": {"low": (0.5,)}}, None, "env-v0")
    agent_files.write_settings(tmp_path, saved)
    assert agent_files.read_settings(tmp_path) == saved


@pytest.mark.parametrize("value", [object(), float("nan")])
def test_settings_that_are_not_json_are_refused(tmp_path, value):
    with pytest.raises(ValueError, match="planner 'mine' are not JSON"):
        agent_files.write_settings(tmp_path, AgentSettings("mine", {"odd": value}))


def test_an_unknown_checkpoint_name_lists_what_there_is(monkeypatch, folder):
    monkeypatch.setattr(agent_files, "bundled", lambda: {"cartpole-swingup": folder})
    with pytest.raises(LookupError, match=r"did you mean 'cartpole-swingup'\?.*Bundled: cartpole-swingup"):
        TDMAgent.load("cartpole-swingpu")
    assert TDMAgent.load("cartpole-swingup").env_id == CARTPOLE


def test_text_with_a_separator_is_a_folder(monkeypatch, folder):
    monkeypatch.chdir(folder.parent)
    assert agent_files.resolve("./saved").samefile(folder)
    assert agent_files.resolve("saved").samefile(folder)
    with pytest.raises(CheckpointError, match="no folder nowhere; `tdm train"):
        TDMAgent.load("./nowhere")
    with pytest.raises(CheckpointError, match=r"no folder svaed; did you mean 'saved'\?"):
        TDMAgent.load("./svaed")


def test_every_bundled_checkpoint_loads():
    for name in agent_files.bundled().keys() - {"walkers"}:  # which is of any body: test_unseen
        agent = TDMAgent.load(name)
        assert agent.env_id is not None
