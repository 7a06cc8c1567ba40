"""Mistakes of a first hour: each is refused where it is made, and the message says what to do."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from gymnasium import spaces

from tdm_agents import TDMAgent, evaluate, make_planner
from tdm_agents.protocols import ModelSpec
from tdm_agents.storage import CheckpointError
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel
from tdm_agents.world_models.model_files import settings_sha256

CARTPOLE = "dm_control/cartpole-swingup-v0"
WALKER = "dm_control/walker-stand-v0"
SPEC = ModelSpec(
    observation_space=spaces.Box(-np.inf, np.inf, (5,), np.float32),
    action_space=spaces.Box(-1, 1, (1,), np.float32),
    observation_dim=5,
    action_dim=1,
)


def a_model():
    return MLPWorldModel(SPEC, MLPConfig(hidden=8, layers=1), seed=4)


def an_agent(**more):
    planner = make_planner("mppi", horizon=2, num_samples=4, iterations=1)
    agent = TDMAgent(a_model(), planner, **more)
    agent.reset()
    return agent


@pytest.fixture
def folder(tmp_path):
    an_agent(env_id=CARTPOLE, reward_function=CARTPOLE).save(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("planner", ["mppi", None, {}, type(make_planner("mppi"))])
def test_what_is_no_planner_is_refused_with_how_to_make_one(planner):
    with pytest.raises(TypeError, match=r"planner is .*make_planner\('mppi'"):
        TDMAgent(a_model(), planner)


@pytest.mark.parametrize("seed", ["a", 1.5, None])
def test_a_seed_that_is_no_integer_is_refused(seed):
    with pytest.raises(TypeError, match=r"seed is .*expected an integer"):
        an_agent(seed=seed)
    if seed is not None:
        with pytest.raises(TypeError, match=r"seed is .*expected an integer"):
            an_agent().reset(seed=seed)


def test_a_seed_of_numpy_is_one_and_a_huge_one_is_refused():
    assert an_agent(seed=np.int64(3)).generator.initial_seed() == 3
    with pytest.raises(ValueError, match="64 bits"):
        an_agent(seed=2**64)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mppi", {"num_samples": "abc"}, "num_samples of MPPI is 'abc'; expected an integer"),
        ("mppi", {"num_samples": 4.5}, "num_samples of MPPI is 4.5; expected an integer"),
        ("cem", {"horizon": 2.5}, "horizon of CEM is 2.5"),
        ("cem", {"horizon": True}, "horizon of CEM is True"),
        ("cem", {"num_elites": "3"}, "num_elites of CEM is '3'"),
        ("cem", {"warm_start": "no"}, "warm_start of CEM is 'no'; expected True or False"),
        ("cem", {"noise_beta": "x"}, "noise_beta of CEM is 'x'; expected a number.*or None"),
        ("cem", {"discount": None}, "discount of CEM is None; expected a number"),
        ("random_shooting", {"iterations": 1.0}, "iterations of RandomShooting is 1.0"),
        ("beam_search", {"beam_width": "8"}, "beam_width of BeamSearch is '8'"),
        ("policy", {"horizon": "1"}, "horizon of Policy is '1'"),
        ("proposal_shooting", {"noise_scale": "big"}, "noise_scale of ProposalShooting is 'big'"),
    ],
)
def test_a_planner_setting_of_the_wrong_type_is_named(name, settings, message):
    with pytest.raises(TypeError, match=message):
        make_planner(name, **settings)


def test_planner_settings_of_numpy_and_whole_numbers_are_taken():
    assert make_planner("cem", horizon=np.int64(4), discount=1).horizon == 4


@pytest.mark.parametrize("change", ["dropped", "changed", "without its hash"])
def test_a_changed_setting_of_a_saved_model_is_refused(folder, change):
    path = folder / "model.json"
    value = json.loads(path.read_text())
    if change == "dropped":
        del value["config"]["layers"]
    elif change == "changed":
        value["spec"]["action_repeat"] = 2
    else:
        del value["settings_sha256"]
    path.write_text(json.dumps(value))
    with pytest.raises(
        CheckpointError, match=r"model\.json does not agree with its settings_sha256.*altered"
    ):
        TDMAgent.load(folder)


def test_another_layout_of_the_same_settings_is_read(folder):
    path = folder / "model.json"
    path.write_text(json.dumps(dict(reversed(json.loads(path.read_text()).items()))))
    assert TDMAgent.load(folder).env_id == CARTPOLE


def test_weights_that_do_not_fit_the_settings_are_told_in_a_line(folder):
    path = folder / "model.json"
    value = json.loads(path.read_text())
    value["config"]["hidden"] = 16
    path.write_text(json.dumps(value | {"settings_sha256": settings_sha256(value)}))
    with pytest.raises(
        CheckpointError, match=r"does not fit .* tensors; .* has shape .*, expected"
    ) as caught:
        TDMAgent.load(folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400 + len(str(folder))


def test_what_is_no_folder_is_refused(folder):
    with pytest.raises(TypeError, match=r"checkpoint is None; expected .*bundled"):
        TDMAgent.load(None)
    for path in (folder / "model.json", str(folder / "model.json")):
        with pytest.raises(CheckpointError, match="is a file; expected the folder"):
            TDMAgent.load(path)


def test_a_model_without_its_agent_is_told_from_an_empty_folder(folder):
    (folder / "agent.json").unlink()
    with pytest.raises(CheckpointError, match=r"training has not finished.*tdm train.*agent\.save"):
        TDMAgent.load(folder)
    (folder / "model.json").unlink()
    with pytest.raises(CheckpointError, match="a checkpoint folder"):
        TDMAgent.load(folder)


def test_the_reward_function_of_another_body_is_refused(folder):
    message = f"{WALKER}.* 24 scalars and actions of 6; the model of '{CARTPOLE}' has 5 and 1"
    with pytest.raises(ValueError, match=message):
        an_agent(env_id=CARTPOLE, reward_function=WALKER)
    with pytest.raises(ValueError, match=message):
        TDMAgent.load(folder, reward_function=WALKER)
    with pytest.raises(ValueError, match="unnamed"):
        an_agent(reward_function=WALKER)


def test_another_reward_can_be_chosen_when_loading(folder):
    assert TDMAgent.load(folder).reward_function == CARTPOLE
    own = TDMAgent.load(folder, reward_function="predicted")
    assert own.reward_function is None and own.model is own.base_model
    own.save(folder)
    assert TDMAgent.load(folder).reward_function is None
    assert TDMAgent.load(folder, reward_function=CARTPOLE, horizon=3).reward_function == CARTPOLE


def test_a_single_reward_that_is_nan_is_refused_and_one_in_an_array_is_unknown():
    agent, obs = an_agent(), np.zeros(5, np.float32)
    agent.act(obs)
    with pytest.raises(ValueError, match=r"reward is nan; expected a finite number, .*or None"):
        agent.act(obs, reward=float("nan"))
    agent.act(obs, reward=None)
    batched = an_agent()
    batched.act(np.zeros((2, 5), np.float32))
    assert batched.act(np.zeros((2, 5), np.float32), reward=np.array([np.nan, 1.0])).shape == (2, 1)


@pytest.mark.parametrize("observation", [np.zeros(5, complex), ["1"] * 5, np.zeros(5, "datetime64[s]")])
def test_observations_that_are_no_real_numbers_are_refused(observation):
    with pytest.raises(ValueError, match=r"expected numbers of shape \(5,\), real ones, not "):
        an_agent().act(observation)


def test_a_batch_of_no_environments_is_refused():
    for call in (an_agent().act, an_agent().predict):
        with pytest.raises(ValueError, match="a batch of 0 environments; expected at least one"):
            call(np.zeros((0, 5), np.float32))


def test_the_planners_horizon_is_the_first_complaint():
    @dataclass(frozen=True)
    class Short:
        horizon: object = 0

        def init(self, spec, batch):
            return None

        def plan(self, model, state, carry, *, elapsed, generator):
            raise AssertionError("planned")

    with pytest.raises(ValueError, match="horizon of Short is 0; expected at least 1"):
        TDMAgent(a_model(), Short())
    with pytest.raises(TypeError, match="horizon of Short is 'long'; expected an integer"):
        TDMAgent(a_model(), Short("long"))


def test_a_history_that_is_none_is_refused():
    with pytest.raises(TypeError, match=r"history is 'x'; expected a tdm_agents\.protocols\.History"):
        an_agent().reset(history="x")


@pytest.mark.parametrize("seeds", ["01", 1, ["0"], [0.5]])
def test_seeds_that_are_no_integers_are_refused_by_name(seeds):
    with pytest.raises(TypeError, match=r"seeds is .*expected integers.*\[0, 1\]"):
        evaluate(an_agent(), CARTPOLE, seeds)


def test_an_agent_is_not_saved_among_the_files_of_others(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds 'notes\.txt' and no checkpoint; choose another folder"):
        an_agent(env_id=CARTPOLE).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_checkpoint_and_what_a_killed_save_left_are_replaced(folder):
    (folder / "notes.txt").write_text("beside a checkpoint nothing is in the way")
    an_agent(env_id=CARTPOLE, replan_every=2).save(folder)
    assert TDMAgent.load(folder).replan_every == 2
    for name in ("agent.json", "model.json", "notes.txt"):
        (folder / name).unlink()
    (folder / ".model.json.1.partial").write_text("{")
    an_agent(env_id=CARTPOLE).save(folder)
    assert TDMAgent.load(folder).replan_every == 1


def test_a_folder_that_cannot_be_made_is_said_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"the folder .*file/model cannot be made \(.*\); choose another one"):
        an_agent().save(tmp_path / "file" / "model")
