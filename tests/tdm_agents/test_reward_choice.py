"""A reward function is a function, or a name by which it is found again."""

import functools
import json
import sys
import textwrap

import gymnasium as gym
import numpy as np
import pytest
import torch

from tdm_agents import SimulatorModel, TDMAgent, evaluate, make_planner, registry
from tdm_agents.actors.agents import AgentFactory
from tdm_agents.actors.enter import enter
from tdm_agents.actors.entries import parse_entry, planning_for
from tdm_agents.cli.main import main
from tdm_agents.environments import EnvRef, UntrustedModuleError
from tdm_agents.errors import TDMError, is_mistake
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.testing import LinearQuadraticModel
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel

PENDULUM = "InvertedPendulum-v5"
CARTPOLE = "dm_control/cartpole-swingup-v0"
MINE = """
    def pushes(observation, action, next_observation):
        assert observation.shape == next_observation.shape and len(action) == len(observation)
        return action[:, 0]

    not_a_function = 3
"""


def pushes(observation, action, next_observation):
    """Earns what it pushes to the right."""
    return action[:, 0]


class Pulls:
    """An object that is called."""

    def __call__(self, observation, action, next_observation):
        return -action[:, 0]


def planner():
    return make_planner("random_shooting", horizon=1, num_samples=64)


def an_agent(reward):
    return TDMAgent(LinearQuadraticModel(), planner(), seed=0, reward_function=reward)


def a_saveable_agent(reward):
    env = gym.make(CARTPOLE)
    model = MLPWorldModel(spec_of(env.observation_space, env.action_space), MLPConfig(hidden=4))
    return TDMAgent(model, planner(), env_id=CARTPOLE, reward_function=reward)


def first_action(agent):
    agent.reset(seed=0)
    zeros = np.zeros(agent.model.spec.observation_dim, np.float32)
    return float(agent.act(agent.observation_codec.unflatten(zeros))[0])


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The current folder, with ``mine.py`` in it, which is not imported yet."""
    (tmp_path / "mine.py").write_text(textwrap.dedent(MINE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("mine", None)


def forget():
    sys.modules.pop("mine", None)


FUNCTIONS = {
    "function": (pushes, 1),
    "lambda": (lambda o, a, o2: a[:, 0], 1),
    "object": (Pulls(), -1),
    "method": (Pulls().__call__, -1),
    "partial": (functools.partial(pushes), 1),
}


@pytest.mark.parametrize(("function", "sign"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_what_can_be_called_is_planned_for(function, sign):
    assert sign * first_action(an_agent(function)) > 0.8


def test_it_is_given_what_it_says_in_the_environments_units():
    seen = []

    def reads(observation, action, next_observation):
        seen.append((observation.shape, action.shape, next_observation.shape, action.abs().max()))
        return action[:, 0]

    env = gym.make(PENDULUM)  # pushes of up to 3
    found = evaluate(AgentFactory(SimulatorModel, planner(), reads), lambda: env, [0], max_steps=3)
    assert found.episodes[0].decisions == 3
    for before, action, after, most in seen:
        assert (before, action, after) == ((64, 4), (64, 1), (64, 4)) and 2.0 < most <= 3.0


def test_its_environments_are_not_asked_about():
    agent = a_saveable_agent(pushes)
    agent.attach(gym.make(CARTPOLE))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda o, a, o2: a.numpy()[:, 0], r"returned ndarray; expected a tensor"),
        (lambda o, a, o2: 1.0, r"returned float; expected a tensor"),
        (lambda o, a, o2: a, r"returned shape \(64, 1\) for 64 rows"),
        (lambda o, a, o2: a.mean(), r"returned shape \(\) for 64 rows"),
    ],
)
def test_an_answer_that_is_no_reward_per_row_is_refused(answer, message):
    with pytest.raises(TDMError, match=message):
        first_action(an_agent(answer))


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (3, r"reward_function is 3; expected a function of \(observation"),
        (torch.zeros(2), "expected a function of"),
        ("mine:nothing", r"mine has no function 'nothing'"),
        ("mine:not_a_function", r"mine has no function 'not_a_function'"),
        ("nowhere_at_all:pushes", r"cannot be imported: No module named 'nowhere_at_all'"),
        ("mine:", r"expected 'module:function'"),
        (":pushes", r"expected 'module:function'"),
        ("mine:a.b", r"expected 'module:function'"),
        ("", "no reward function for ''"),
    ],
)
def test_what_is_no_function_is_refused(mine, reward, message):
    with pytest.raises(Exception, match=message) as caught:
        an_agent(reward)
    assert is_mistake(caught.value)


def test_a_module_and_function_are_a_name(mine):
    agent = a_saveable_agent("mine:pushes")
    agent.save(mine / "agent")
    assert first_action(agent) > 0.8
    loaded = TDMAgent.load(mine / "agent")
    assert loaded.reward_function == "mine:pushes" and first_action(loaded) > 0.8


def test_a_function_of_a_module_is_saved_by_its_name(mine):
    sys.path.append(str(mine))
    from mine import pushes as given

    a_saveable_agent(given).save(mine / "agent")
    assert json.loads((mine / "agent" / "agent.json").read_text())["reward_function"] == "mine:pushes"
    assert first_action(TDMAgent.load(mine / "agent")) > 0.8
    assert first_action(TDMAgent.load(mine / "agent", reward_function=Pulls())) < -0.8


@pytest.mark.parametrize("name", ["lambda", "object", "method", "partial"])
def test_a_function_without_a_name_is_not_saved(tmp_path, name):
    agent = a_saveable_agent(FUNCTIONS[name][0])
    with pytest.raises(TDMError, match=r"no name to find it again by.*'module:function'"):
        agent.save(tmp_path / "agent")
    assert not (tmp_path / "agent").exists()


def test_neither_one_of_a_script(tmp_path, monkeypatch):
    monkeypatch.setattr(pushes, "__module__", "__main__")
    with pytest.raises(TDMError, match="no name to find it again by"):
        a_saveable_agent(pushes).save(tmp_path / "agent")


@pytest.mark.parametrize("like", [False, True], ids=["loaded", "like"])
def test_a_file_is_no_reason_to_import_a_module(mine, like):
    a_saveable_agent("mine:pushes").save(mine / "agent")
    forget()

    def read():
        if like:
            return enter(parse_entry("simulator like=./agent"), EnvRef(CARTPOLE))
        return TDMAgent.load(mine / "agent")

    with pytest.raises(UntrustedModuleError, match=r"agent\.json names the module 'mine'.*--import mine"):
        read()
    assert "mine" not in sys.modules
    if not like:
        assert TDMAgent.load(mine / "agent", reward_function="predicted").reward_function is None
    an_agent("mine:pushes")  # the user says so
    read()


def test_a_file_does_not_call_what_python_itself_has(mine):
    a_saveable_agent("mine:pushes").save(mine / "agent")
    path = mine / "agent" / "agent.json"
    path.write_text(path.read_text().replace("mine:pushes", "os:system"))
    with pytest.raises(UntrustedModuleError, match=r"'os:system' as its reward function"):
        TDMAgent.load(mine / "agent")


@pytest.fixture
def registered():
    registry.register(registry.REWARDS, "pushing", pushes)
    yield "pushing"
    del registry._registered[registry.REWARDS, "pushing"]


def test_a_registered_name_is_planned_for_and_saved(registered, tmp_path):
    a_saveable_agent(registered).save(tmp_path / "agent")
    loaded = TDMAgent.load(tmp_path / "agent")
    assert loaded.reward_function == registered and first_action(loaded) > 0.8
    with pytest.raises(
        TDMError, match=r"no reward function for 'pushin'.*installed packages: .*pushing; a function"
    ):
        an_agent("pushin")


def test_what_is_registered_as_a_reward_is_a_function():
    with pytest.raises(TDMError, match="it is a int; expected a function"):
        registry.register(registry.REWARDS, "three", 3)


COUNTED = """
    def count(observation, action, next_observation):
        assert observation.shape == next_observation.shape == (len(action), 4)
        return {}
"""


@pytest.fixture
def counting(tmp_path, monkeypatch):
    """A folder with a reward function in a file of its own: 2 per step."""
    (tmp_path / "counting.py").write_text(textwrap.dedent(COUNTED).format("2 + 0 * action[:, 0]"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("counting", None)


def test_returns_are_counted_by_a_function():
    def policy(observation):
        return np.full(1, 0.25, np.float32)

    own = evaluate(policy, PENDULUM, [0, 1], max_steps=5).scores
    doubled = evaluate(policy, PENDULUM, [0, 1], max_steps=5, score_by=lambda o, a, o2: 2 * a[:, 0])
    assert own == [5.0, 5.0] and doubled.scores == [2.5, 2.5]
    turned = evaluate(
        policy, PENDULUM, [0], max_steps=2, score_by=lambda o, a, o2: o2[:, 1] - o[:, 1], record_horizon=0
    ).episodes[0]
    angle = turned.recording.observation[:, 1]
    assert turned.own == 2.0, "the environment's own return is forgotten"
    assert turned.score == pytest.approx(angle[-1] - angle[0])
    np.testing.assert_allclose(turned.recording.reward, np.diff(angle), atol=1e-6)


def test_evaluate_play_and_compare_plan_for_it_and_count_by_it(counting, capsys):
    simulator = ["--simulator", "--planner", "random_shooting", "--planner-settings"]
    small = [*simulator, "num-samples", "2", "horizon", "1"]
    asked = ["--env-id", PENDULUM, "--reward", "counting:count", "--max-steps", "3"]
    assert main(["evaluate", *small, *asked, "--episodes", "2", "--out", "report.json"]) == 0
    said = capsys.readouterr().out
    assert "returns by counting:count" in " ".join(said.split())
    report = json.loads((counting / "report.json").read_text())
    assert [e["return"] for e in report["episodes"]] == [6.0, 6.0]
    assert report["settings"]["score_by"] == report["settings"]["reward_function"] == "counting:count"
    assert main(["play", *small, *asked, "--no-video", "--out", "played"]) == 0
    assert "return by counting:count 6.0 after 3" in " ".join(capsys.readouterr().out.split())
    entries = ["--entry", "random", "--entry", "simulator planner=random_shooting num_samples=2 horizon=1"]

    def compared():
        sys.modules.pop("counting", None)
        assert main(["compare", *entries, *asked, "--episodes", "2", "--out", "compared"]) == 0
        assert "returns by counting:count" in " ".join(capsys.readouterr().out.split())
        found = json.loads((counting / "compared" / "comparison.json").read_text())
        assert "Returns by counting:count of 2" in (counting / "compared" / "comparison.md").read_text()
        return [c["summary"]["mean"] for c in found["contestants"]]

    assert compared() == [6.0, 6.0]
    (counting / "counting.py").write_text(textwrap.dedent(COUNTED).format("3 + 0 * action[:, 0]"))
    assert compared() == [9.0, 9.0], "episodes of the former function were kept"


def test_an_entry_may_plan_for_another_reward_than_everybody_is_counted_by():
    entry = parse_entry("simulator planner=cem reward_function=mine:pushes")
    assert planning_for(entry, "counting:count") == entry
    other = planning_for(parse_entry("simulator planner=cem"), "counting:count")
    assert other.options["reward_function"] == "counting:count"
    assert planning_for(parse_entry("random"), "counting:count").options == {}


def test_a_reward_that_is_not_there_is_refused_before_anybody_plays(capsys):
    for command in (["evaluate", "--random"], ["compare", "--entry", "random"]):
        assert main([*command, "--env-id", PENDULUM, "--reward", "no_such_module:count"]) == 2
        assert "cannot be imported: No module named 'no_such_module'" in capsys.readouterr().err
