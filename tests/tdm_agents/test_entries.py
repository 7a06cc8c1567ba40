"""Who plays and where, in one line of text."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from tdm_agents import make_planner
from tdm_agents.actors.enter import enter, environment_of
from tdm_agents.actors.entries import Entry, parse_entry
from tdm_agents.actors.functions import UniformActions
from tdm_agents.agent import TDMAgent
from tdm_agents.agent.discounts import discounted
from tdm_agents.environments import EnvRef
from tdm_agents.protocols import tracing
from tdm_agents.settings_text import parse_settings
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.world_models.iql.iql_config import IQLConfig
from tdm_agents.world_models.iql.iql_model import IQL
from tdm_agents.world_models.mlp import MLPWorldModel
from tdm_agents.world_models.mlp_policy import MLPWithPolicy
from tdm_agents.wrappers import WithoutAlive, WithProposal, WithValue

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
            r"does not begin with who plays: a checkpoint, a \.zip .*, expert, random, or waypoints",
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


PENDULUM = "InvertedPendulum-v5"


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """The folder of a student that always pushes by about 0.5."""
    made = EnvRef(PENDULUM).make()
    spec = spec_of(made.observation_space, made.action_space, action_repeat=1)
    made.close()
    model = MLPWithPolicy(spec).eval()
    with torch.no_grad():
        model.policy_head.weight.zero_()
        model.policy_head.bias.fill_(float(np.arctanh(0.5)))
        model.policy_log_std.fill_(-5.0)
    folder = tmp_path_factory.mktemp("student")
    TDMAgent(model, make_planner("policy"), env_id=PENDULUM).save(folder)
    return folder


@pytest.mark.parametrize("who", ["simulator", "{student}"])
@pytest.mark.parametrize("planner", ["cem", "mppi"])
def test_a_student_proposes_to_another_model(student, who, planner):
    settings = f"planner={planner} num_policy=15 num_samples=18 iterations=1 horizon=2"
    line = f"{who} {settings} proposal={{student}}".format(student=student)
    entered = enter(parse_entry(line), EnvRef(PENDULUM))
    assert entered.settings["proposal"] == str(student)
    assert student / "weights.safetensors" in entered.files
    envs = [EnvRef(PENDULUM).make()]
    obs, _ = envs[0].reset(seed=0)
    agent = entered.contestant if isinstance(entered.contestant, TDMAgent) else entered.contestant(envs)
    agent.reset()
    with tracing():
        agent.act(obs)
    (considered,) = agent.last_plan.plan.trace
    proposed = considered.actions[0, -15:]  # [P, H, m]
    torch.testing.assert_close(proposed, torch.full_like(proposed, 0.5), rtol=0, atol=0.1)
    assert len(proposed.unique()) > 15  # each is drawn
    envs[0].close()


def test_proposal_shooting_follows_a_student(student):
    line = f"simulator planner=proposal_shooting num_samples=1 noise_scale=0 horizon=2 proposal={student}"
    entered = enter(parse_entry(line), EnvRef(PENDULUM))
    env = EnvRef(PENDULUM).make()
    obs, _ = env.reset(seed=0)
    agent = entered.contestant([env])
    agent.reset()
    assert agent.act(obs) == pytest.approx(0.5 * env.action_space.high, abs=1e-4)
    env.close()


@pytest.mark.parametrize(
    ("line", "error", "sentence"),
    [
        ("simulator planner=cem proposal={student}", ValueError, "cem follows none as it is set"),
        ("simulator planner=random_shooting proposal={student}", ValueError, "random_shooting follows none"),
        (
            "simulator planner=beam_search expand=uniform proposal={student}",
            ValueError,
            "beam_search follows",
        ),
        ("simulator planner=mppi num_policy=2 proposal={mlp}", TypeError, "has no propose"),
        ("random proposal={student}", ValueError, "a random takes label"),
    ],
)
def test_a_proposal_that_would_not_be_followed_is_refused(student, tmp_path, line, error, sentence):
    spec = TDMAgent.load(student).model.spec
    TDMAgent(MLPWorldModel(spec).eval(), make_planner("cem"), env_id=PENDULUM).save(tmp_path / "mlp")
    with pytest.raises(error, match=sentence):
        enter(parse_entry(line.format(student=student, mlp=tmp_path / "mlp")), EnvRef(PENDULUM))


def test_a_student_with_another_time_step_is_refused(student):
    line = f"simulator planner=cem num_policy=2 action_repeat=2 proposal={student}"
    entered = enter(parse_entry(line), EnvRef(PENDULUM))
    env = EnvRef(PENDULUM).make()
    with pytest.raises(ValueError, match="action_repeat of MLPWithPolicy, which is to propose, is 1"):
        entered.contestant([env])
    env.close()


@pytest.fixture(scope="module")
def critic(tmp_path_factory):
    """The folder of an IQL model whose value is 3 where the pole leans to one side, else 0."""
    made = EnvRef(PENDULUM).make()
    spec = spec_of(made.observation_space, made.action_space, action_repeat=1)
    made.close()
    model = IQL(spec, IQLConfig(iql_hidden=8, iql_layers=1)).eval()
    with torch.no_grad():
        first, last = model.learned.value.layers
        first.weight.zero_()
        first.bias.zero_()
        first.weight[0, 1] = 1.0  # the angle
        last.weight.fill_(3.0)
        last.bias.zero_()
    folder = tmp_path_factory.mktemp("critic")
    TDMAgent(model, make_planner("policy"), env_id=PENDULUM).save(folder)
    return folder


@pytest.mark.parametrize("who", ["simulator", "{student}"])
def test_a_checkpoint_says_what_comes_after_the_horizon(student, critic, who):
    line = f"{who} planner=random_shooting num_samples=6 horizon=1 value={critic}".format(student=student)
    entered = enter(parse_entry(line), EnvRef(PENDULUM))
    assert entered.settings["value"] == str(critic) and critic / "weights.safetensors" in entered.files
    envs = [EnvRef(PENDULUM).make()]
    obs, _ = envs[0].reset(seed=0)
    agent = entered.contestant if isinstance(entered.contestant, TDMAgent) else entered.contestant(envs)
    agent.reset()
    with tracing():
        agent.act(obs)
    (considered,) = agent.last_plan.plan.trace
    angle = considered.observation[0, :, 0, 1]
    beyond = IQLConfig().discount * 3.0 * angle.clamp(min=0.0)
    reward = considered.value[0] - beyond
    plain = enter(parse_entry(line.replace(f" value={critic}", "")), EnvRef(PENDULUM)).contestant
    plain = plain if isinstance(plain, TDMAgent) else plain(envs)
    plain.reset()
    with tracing():
        plain.act(obs)
    torch.testing.assert_close(reward, plain.last_plan.plan.trace[0].value[0])
    envs[0].close()


@pytest.mark.parametrize(
    ("line", "error", "sentence"),
    [
        ("simulator planner=cem value={student}", TypeError, "MLPWithPolicy has no value"),
        ("{student} planner=policy value={critic}", ValueError, "the planner policy compares nothing"),
        (
            "{student} planner=beam_search objective=likelihood level=token value={critic}",
            ValueError,
            "no values",
        ),
        ("random value={critic}", ValueError, "a random takes label"),
    ],
)
def test_a_value_that_there_is_not_or_nobody_asks_for_is_refused(student, critic, line, error, sentence):
    with pytest.raises(error, match=sentence):
        enter(parse_entry(line.format(student=student, critic=critic)), EnvRef(PENDULUM))


def test_a_value_is_discounted_as_it_was_learned_unless_the_entry_says_otherwise(student, critic):
    def discount(line):
        entered = enter(parse_entry(line), EnvRef(PENDULUM))
        assert entered.settings["planner_settings"] == entered.contestant.planner
        return entered.contestant.planner.discount

    line = f"{student} planner=mppi horizon=2"
    assert discount(line) == 1.0
    assert discount(f"{line} value={critic}") == IQLConfig().discount
    assert discount(f"{line} value={critic} discount=0.5") == 0.5
    assert discount(f"{critic} planner=mppi horizon=2") == IQLConfig().discount
    simulated = enter(parse_entry(f"simulator planner=mppi value={critic}"), EnvRef(PENDULUM))
    assert simulated.contestant.planner.discount == IQLConfig().discount


def test_imitation_by_likelihood_has_no_discount_that_nobody_asked_for():
    search = make_planner("beam_search", level="token", objective="likelihood")
    valued = IQL(spec_of(gym.spaces.Box(-1, 1, (2,)), gym.spaces.Box(-1, 1, (1,))), IQLConfig())
    assert discounted(search, valued) == search
    assert discounted(replace(search, objective="reward"), valued).discount == IQLConfig().discount


def test_a_saved_agent_with_a_value_discounts_as_that_one_does_with_another_planner(critic, tmp_path):
    value = TDMAgent.load(critic).base_model
    mlp = WithValue(MLPWorldModel(value.spec).eval(), value)
    TDMAgent(mlp, make_planner("cem", discount=0.7), env_id=PENDULUM).save(tmp_path)
    assert TDMAgent.load(tmp_path).planner.discount == 0.7
    assert TDMAgent.load(tmp_path, "mppi").planner.discount == value.discount


def test_models_of_other_spaces_are_no_proposal_and_no_value(student, critic):
    spec = TDMAgent.load(critic).model.spec
    stronger = replace(spec, action_space=gym.spaces.Box(-3.0, 9.0, (1,)))
    keyed = replace(spec, observation_space=gym.spaces.Dict(all=spec.observation_space))
    for wrapper, given in ((WithValue, critic), (WithProposal, student)):
        known = TDMAgent.load(given).base_model
        with pytest.raises(ValueError, match=r"action_space of .* that of the model is Box\(-3\.0, 9\.0"):
            wrapper(MLPWorldModel(stronger), known)
        with pytest.raises(ValueError, match=r"observation_space of .* that of the model is Dict"):
            wrapper(MLPWorldModel(keyed), known)


def test_a_checkpoint_of_another_environment_is_remarked_on(student, critic, tmp_path, capsys):
    agent = TDMAgent.load(critic)
    TDMAgent(agent.base_model, agent.planner, env_id="Elsewhere-v0").save(tmp_path)
    enter(parse_entry(f"{student} planner=mppi value={critic}"), EnvRef(PENDULUM))
    assert "was trained for" not in capsys.readouterr().err
    enter(parse_entry(f"{student} planner=mppi value={tmp_path}"), EnvRef(PENDULUM))
    assert f"was trained for Elsewhere-v0 and is used in {PENDULUM}" in capsys.readouterr().err


def test_what_is_for_learned_models_is_no_option_of_the_simulator():
    with pytest.raises(ValueError, match="has support=, which is for learned models"):
        parse_entry("simulator planner=mppi support=runs/data")


def test_a_value_of_another_time_step_is_refused(critic):
    line = f"simulator planner=cem action_repeat=2 value={critic}"
    env = EnvRef(PENDULUM).make()
    with pytest.raises(ValueError, match="action_repeat of IQL, which is to value, is 1"):
        enter(parse_entry(line), EnvRef(PENDULUM)).contestant([env])
    env.close()
