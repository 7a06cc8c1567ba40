"""Models that imagine no observations: planned with as others are, and refused where one is needed."""

import json
import math
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from latent_dynamics import LatentModel

from tdm_agents import TDMAgent, evaluate, make_planner, registry
from tdm_agents.cli import train as train_command
from tdm_agents.cli.main import main
from tdm_agents.data.decisions import Decisions
from tdm_agents.data.trajectories import Trajectories, TrajectoryInfo
from tdm_agents.environments import EnvRef
from tdm_agents.protocols import HasRollout, History, ModelSpec, Rollout, Step, looped_rollout, observation_of
from tdm_agents.spaces.spec_json import spec_from_json, spec_to_json
from tdm_agents.testing import LinearQuadraticExpert, LinearQuadraticModel, check_world_model
from tdm_agents.training.prediction import prediction_error
from tdm_agents.wrappers import RewardFunction, WithoutAlive, WithProposal, WithValue

CARTPOLE = "dm_control/cartpole-swingup-v0"
STARTS = torch.tensor([[0.5, -0.3], [-0.2, 0.4], [0.1, 0.0]])


def unseen(kind=LinearQuadraticModel, **settings):
    return kind(imagines_observations=False, **settings)


def history(choices=None):
    return History.of_observation(STARTS, action_dim=1, discrete=choices is not None)


# ---------------------------------------------------------------------- the protocol


@pytest.mark.parametrize("choices", [None, 3])
@pytest.mark.parametrize("kind", [LinearQuadraticModel, LinearQuadraticExpert])
def test_the_contract_holds_without_observations(kind, choices):
    check_world_model(unseen(kind, choices=choices), history(choices))


class Promises(LinearQuadraticModel):
    """Says that it imagines observations, and does not."""

    def step(self, state, action, *, generator=None):
        state, step = super().step(state, action)
        return state, replace(step, observation=None)


class Hides(LinearQuadraticModel):
    """Imagines observations, and says that it does not."""

    @property
    def spec(self):
        return replace(super().spec, imagines_observations=False)

    def step(self, state, action, *, generator=None):
        state, step = super().step(state, action)
        return state, replace(step, observation=state.read().clone())


class RolloutPromises(LinearQuadraticModel):
    def rollout(self, state, actions, *, generator=None):
        return replace(looped_rollout(self, state, actions), observation=None)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (Promises, "step: observation is None, but spec.imagines_observations is True"),
        (Hides, "step: observation is a tensor, but spec.imagines_observations is False"),
        (RolloutPromises, "rollout: observation is None, but spec.imagines_observations is True"),
    ],
)
def test_a_model_that_contradicts_its_spec_is_caught(model, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_world_model(model(), history())


def test_all_steps_of_a_rollout_have_an_observation_or_none_has():
    seen = Step(torch.zeros(2, 3), torch.zeros(2), torch.ones(2, dtype=torch.bool))
    blind = replace(seen, observation=None)
    assert Rollout.of([seen, seen], None).observation.shape == (2, 2, 3)
    assert Rollout.of([blind, blind], None).observation is None
    with pytest.raises(ValueError, match="1 of 2 imagined steps have an observation; expected all or none"):
        Rollout.of([seen, blind], None)


def test_what_needs_an_observation_says_who_whose_and_what_instead():
    model = unseen()
    _, step = model.step(model.start(history(), horizon=1), torch.zeros(3, 1))
    sentence = r"LinearQuadraticModel imagines no observations, and a map needs them: walk$"
    with pytest.raises(ValueError, match=sentence):
        observation_of(step, model, "a map", instead="walk")


def test_the_spec_says_so_in_files_and_those_of_others_stay_as_they_were():
    spec = unseen().spec
    written = json.loads(json.dumps(spec_to_json(spec)))
    assert spec_from_json(written) == spec
    usual = spec_to_json(LinearQuadraticModel().spec)
    assert usual == {name: value for name, value in written.items() if name != "imagines_observations"}
    assert spec_from_json(usual).imagines_observations


# ---------------------------------------------------------------------- planners and wrappers


def plan(model, name, horizon=4):
    planner = make_planner(name, horizon=horizon)
    return planner.plan(
        model,
        model.start(history(), horizon=horizon),
        planner.init(model.spec, 3),
        elapsed=torch.zeros(3, dtype=torch.int64),
        generator=torch.Generator().manual_seed(0),
    )


@pytest.mark.parametrize("name", registry.names(registry.PLANNERS))
def test_every_planner_plans_the_same_without_observations(name):
    known, blind = plan(LinearQuadraticExpert(), name), plan(unseen(LinearQuadraticExpert), name)
    assert torch.equal(known.sequence, blind.sequence)
    assert torch.equal(known.value, blind.value)


class Writes(LinearQuadraticModel):
    def draft(self, state):
        raise AssertionError("it was asked for tokens")


def test_a_search_of_tokens_is_refused():
    planner = make_planner("beam_search", horizon=2, level="token")
    model = unseen(Writes)
    with pytest.raises(ValueError, match=r"Writes imagines no observations.*use level='action'"):
        planner.plan(
            model,
            model.start(history(), horizon=2),
            None,
            elapsed=torch.zeros(3, dtype=torch.int64),
            generator=torch.Generator(),
        )


def follow(observation):
    return -observation[:, :1]


def critic(observation):
    return -observation.square().sum(-1)


def test_wrappers_pass_on_what_the_model_imagines():
    wrapped = WithoutAlive(WithProposal(WithValue(unseen(), critic), follow))
    assert not wrapped.spec.imagines_observations
    check_world_model(wrapped, history())
    assert WithoutAlive(LinearQuadraticModel()).spec.imagines_observations


class Rolls(LinearQuadraticModel):
    def rollout(self, state, actions, *, generator=None):
        steps = []
        for action in actions.unbind(dim=1):
            state, step = self.step(state, action)
            steps.append(step)
        return Rollout.of(steps, state)


def test_a_wrapped_rollout_without_observations_equals_its_steps():
    model = WithValue(unseen(Rolls), critic)
    assert isinstance(model, HasRollout)
    check_world_model(model, history())


def test_a_reward_function_is_refused_at_once():
    sentence = r"LinearQuadraticModel imagines no observations, and a reward function.*'predicted'"
    with pytest.raises(ValueError, match=sentence):
        RewardFunction(unseen(), lambda o, a, o2: o[:, 0])


def test_a_given_policy_and_a_critic_are_asked_about_the_present_alone():
    model = WithValue(WithProposal(unseen(), follow), critic)
    state = model.start(history(), horizon=2)
    assert torch.equal(model.propose(state, 1).actions[:, 0], follow(STARTS))
    assert torch.equal(model.value(state), critic(STARTS))
    state, _ = model.step(state, torch.zeros(3, 1))
    state = model.take(state, torch.tensor([0, 0]))
    with pytest.raises(ValueError, match=r"a given policy needs them: use the model's own proposal"):
        model.propose(state, 1)
    with pytest.raises(ValueError, match=r"a given critic needs them: use the model's own value"):
        model.value(state)
    assert torch.equal(plan(WithProposal(unseen(), follow), "policy", horizon=1).action, follow(STARTS))


# ---------------------------------------------------------------------- who reads what was imagined


def test_the_prediction_error_is_of_the_reward_alone():
    def episodes(model):
        rng = np.random.default_rng(0)
        actions = torch.from_numpy(rng.uniform(-1, 1, (6, 11, 1)).astype(np.float32))
        starts = torch.from_numpy(rng.uniform(-1, 1, (6, 2)).astype(np.float32))
        state = model.start(History.of_observation(starts, action_dim=1), horizon=10)
        imagined = looped_rollout(model, state, actions[:, :10])
        observation = torch.cat([starts[:, None], imagined.observation], dim=1)  # [6, 11, 2]
        reward = torch.cat([torch.full((6, 1), math.nan), imagined.reward], dim=1)
        flat = (x.flatten(0, 1).numpy() for x in (observation, reward, actions))
        spec = model.spec
        info = TrajectoryInfo("", spec.observation_space, spec.action_space, 1, ())
        decisions = Decisions(*flat, np.ones(66, bool))
        return Trajectories.from_arrays(decisions, offsets=11 * np.arange(7), info=info)

    data = episodes(LinearQuadraticModel())
    settings = {"horizons": (1, 4), "starts": 8, "context_steps": 2}
    wrong = {"dt": 0.4}
    both = prediction_error(LinearQuadraticModel(**wrong), data, **settings)
    alone = prediction_error(unseen(**wrong), data, **settings)
    assert set(alone) == {"reward_rms@1", "reward_rms@4"} < set(both)
    assert all(alone[name] == both[name] > 0 for name in alone)


def cartpole_spec(**more):
    env = gym.make(CARTPOLE)
    return ModelSpec(env.observation_space, env.action_space, 5, 1, **more)


def test_an_agent_refuses_a_reward_function_and_its_files_do(by_name, tmp_path):
    agent = TDMAgent(LatentModel(cartpole_spec()), make_planner("cem", horizon=2), env_id=CARTPOLE)
    agent.save(tmp_path)
    assert TDMAgent.load(tmp_path, reward_function="predicted").reward_function is None
    sentence = r"LatentModel imagines no observations, and a reward function.*reward_function='predicted'"
    with pytest.raises(ValueError, match=sentence):
        TDMAgent(agent.model, agent.planner, reward_function=CARTPOLE)
    with pytest.raises(ValueError, match=sentence):
        TDMAgent.load(tmp_path, reward_function=CARTPOLE)


def test_a_record_of_what_was_imagined_is_refused_before_anything_is_played():
    agent = TDMAgent(LatentModel(cartpole_spec()), make_planner("cem", horizon=2))
    with pytest.raises(ValueError, match=r"LatentModel imagines no observations.*record_horizon=0"):
        evaluate(agent, CARTPOLE, [0], max_steps=2, record_horizon=1)
    found = evaluate(agent, CARTPOLE, [0], max_steps=2, record_horizon=0)
    assert found.episodes[0].recording.imagined.shape == (2, 0, 5)


# ---------------------------------------------------------------------- the command line


@pytest.fixture
def by_name(monkeypatch):
    """The plug-in by its name, as where it is installed."""
    monkeypatch.setattr(registry, "_registered", {(registry.WORLD_MODELS, "latent"): LatentModel})
    monkeypatch.setenv("MUJOCO_GL", "disable")


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """A few random episodes in the cartpole."""
    out = tmp_path_factory.mktemp("collected")
    words = "--random-episodes 4 --planner-episodes 0 --max-steps 160 --action-repeat 4 --workers 1"
    assert main(["collect", "--env-id", CARTPOLE, *words.split(), "--out", str(out)]) == 0
    return out / "data"


@pytest.fixture
def trained(by_name, collected, tmp_path):
    small = "--steps 3 --batch-size 8 --evaluate-batches 1 --starts 4 --horizons 1 5 --planner mppi"
    words = ["train", "--data", str(collected), "--out", str(tmp_path / "run"), "--model", "latent"]
    settings = "--model-settings latent 8 hidden 16 --action-repeat 4 --held-out-fraction 0.3"
    assert main([*words, *settings.split(), *small.split()]) == 0
    return tmp_path / "run"


def test_commands_work_with_a_latent_model_and_say_what_does_not(trained, tmp_path, capsys):
    settings = json.loads((trained / "agent.json").read_text())
    assert settings["reward_function"] is None and settings["env_id"] == CARTPOLE
    few = ["--planner-settings", "horizon", "3", "num-samples", "8"]
    cut = ["--max-steps", "12", "--checkpoint", str(trained)]
    report = tmp_path / "report.json"
    assert main(["evaluate", *cut, *few, "--episodes", "2", "--out", str(report)]) == 0
    assert "LatentModel" in json.loads(report.read_text())["contestant"]
    assert main(["play", *cut, *few, "--no-video", "--out", str(tmp_path / "play")]) == 0
    assert (tmp_path / "play" / "play.png").stat().st_size > 10_000
    compare = ["compare", "--env-id", CARTPOLE, "--episodes", "2", "--max-steps", "12"]
    entry = f"{trained} horizon=3 num_samples=8"
    out = ["--out", str(tmp_path / "compared")]
    assert main([*compare, "--entry", entry, "--entry", "random", *out]) == 0
    capsys.readouterr()
    with_reward = f"{entry} reward_function={CARTPOLE}"
    assert main([*compare, "--entry", with_reward, "--out", str(tmp_path / "other")]) == 2
    assert "LatentModel imagines no observations" in capsys.readouterr().err
    (trained / "agent.json").write_text(json.dumps(settings | {"reward_function": CARTPOLE}))
    for command in (["evaluate", *cut], ["play", *cut, "--out", str(tmp_path / "again")]):
        assert main(command) == 2
        assert "null in agent.json" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_training_names_no_reward_function_for_a_model_without_observations(tmp_path):
    arguments = train_command.Train(data=(tmp_path,), out=tmp_path)
    planner = train_command.planner_of(arguments, LatentModel.presets()["default"])
    assert train_command.agent_settings(arguments, planner, EnvRef(CARTPOLE)).reward_function == CARTPOLE
    assert (
        train_command.agent_settings(arguments, planner, EnvRef(CARTPOLE), observes=False).reward_function
        is None
    )
