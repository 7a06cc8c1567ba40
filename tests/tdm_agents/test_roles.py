"""Observation scalars with names: where they come from, and one range per role for a mixture of bodies."""

from __future__ import annotations

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import FlattenObservation, FrameStackObservation

import tdm_envs  # noqa: F401 (registers the walkers)
from tdm_agents import TDMAgent, make_planner
from tdm_agents.actors.behaviour import RandomPolicy
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.data.minari_io import DataError
from tdm_agents.data.mixture import MixtureSampler, by_environment
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import EnvRef
from tdm_agents.protocols import History
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.spaces.scalar_names import observation_names, role
from tdm_agents.spaces.spec_json import spec_from_json, spec_to_json
from tdm_agents.storage import CheckpointError
from tdm_agents.testing import check_world_model
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.decoding.options import DecodingOptions
from tdm_agents.world_models.transformer.generalist import Generalist
from tdm_agents.world_models.transformer.layout import StepLayout
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

CONFIG = TransformerConfig(
    layers=1,
    width=32,
    heads=2,
    feedforward=32,
    context=100,
    tokenizer=TokenizerConfig(bins=64, ranges="role"),
    decoding=DecodingOptions(read="mode"),
)


def walker(dof: int, body: int) -> EnvRef:
    return EnvRef("tdm/WalkerChain-v0", {"dof": dof, "body": body})


def spec(dof: int, body: int):
    env = walker(dof, body).make()
    return spec_of(env.observation_space, env.action_space, observation_names=observation_names(env))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Trajectories]:
    """A few random decisions of bodies with four and six hinges."""
    datasets = [
        DatasetSpec(env=walker(dof, 1), mix=((RandomPolicy(), 2),), name=f"dof{dof}", max_steps=20)
        for dof in (4, 6)
    ]
    folder = collect(datasets, tmp_path_factory.mktemp("walkers"))
    return by_environment(Trajectories.each_from_minari(folder))


@pytest.fixture(scope="module")
def model(data) -> Generalist:
    built = Generalist.build({name: t.spec for name, t in data.items()}, CONFIG, seed=0)
    built.fit(data)
    return built.eval()


def history(world, steps: int = 2) -> History:
    n, m = world.spec.observation_dim, world.spec.action_dim
    generator = torch.Generator().manual_seed(0)
    return History(
        observation=torch.randn((2, steps, n), generator=generator),
        reward=torch.zeros((2, steps)),
        action=torch.rand((2, steps - 1, m), generator=generator) * 2 - 1,
        length=torch.full((2,), steps),
    )


# -- names ------------------------------------------------------------------------------------------------


def test_an_environment_says_what_it_observes():
    env = walker(4, 1).make()
    names = observation_names(env)
    assert names == env.unwrapped.observation_names and names[13] == "hinge1_angle"
    assert observation_names(gym.make("Pendulum-v1")) == ()


def test_names_do_not_count_where_a_wrapper_observes_something_else():
    env = walker(4, 1).make()
    assert observation_names(FlattenObservation(FrameStackObservation(env, 2))) == ()


@pytest.mark.parametrize(
    "names", [("a", "b"), ("a", "a", "b"), ("a", 1, "b"), ("a", "", "b"), ("a", "b", "c" * 999)]
)
def test_names_are_one_different_text_per_scalar(names):
    with pytest.raises(ValueError, match="expected 3 different texts"):
        spec_of(gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2), observation_names=names)


def test_a_role_is_a_name_without_its_numbers():
    assert role("hinge3_angle") == role("hinge12_angle") == "hinge#_angle"
    assert role("root_height") == "root_height" != role("root_velocity_x")
    assert role("3") == "3" != role("12")  # a scalar without a name


def test_names_go_through_data_and_files(data, model, tmp_path):
    for trajectories in data.values():
        dof = trajectories.action_dim
        assert trajectories.spec.observation_names[-1] == f"hinge{dof}_velocity"
        assert spec_from_json(spec_to_json(trajectories.spec)) == trajectories.spec
    model.save(tmp_path)
    loaded = Generalist.load(tmp_path)
    assert loaded.config == model.config and len(loaded.config.names) == 13 + 2 * 6
    batch = MixtureSampler(data, steps=3, batch_size=4, seed=0).batch(0)
    assert torch.equal(loaded.eval()(batch)[0], model(batch)[0])


# -- positions --------------------------------------------------------------------------------------------


def test_one_name_has_one_position_in_every_body(model):
    small, large = (model.environment(str(walker(dof, 1))).layout for dof in (4, 6))
    names = model.config.names
    for layout, dof in ((small, 4), (large, 6)):
        places = layout.positions().tolist()
        assert places[13] == names.index("hinge1_angle")
        assert places[13 + dof] == names.index("hinge1_velocity")
        assert places[13 + 2 * dof :] == list(range(len(names), len(names) + 2 + dof))  # reward, SEP, actions
        assert [layout.position(i) for i in range(layout.tokens)] == places


def test_without_names_positions_are_numbers():
    layout = StepLayout(observation_dim=3, action_dim=2, max_observation=5)
    assert layout.positions().tolist() == [0, 1, 2, 5, 6, 7, 8]


# -- ranges -----------------------------------------------------------------------------------------------


def test_scalars_of_one_role_have_one_range_over_all_bodies(data, model):
    both = [model.environment(name).tokenizer for name in data]
    angles = [t.observation.low[13 : 13 + dof] for t, dof in zip(both, (4, 6), strict=True)]
    assert len({float(low) for lows in angles for low in lows}) == 1
    assert torch.equal(both[0].observation.low[:13], both[1].observation.low[:13])
    assert both[0].reward.low == both[1].reward.low
    # it covers both bodies' angles, which a range of one body alone need not
    every = np.concatenate([t.parts[0].observation[:, 13 : 13 + t.action_dim].ravel() for t in data.values()])
    low = both[0].observation.low[13]
    high = low + 64 * both[0].observation.width[13]
    assert low < np.quantile(every, 0.01) and high > np.quantile(every, 0.99)


def test_a_body_that_was_not_trained_on_has_tokens(model):
    world = model.for_spec(spec(5, 9))
    assert world.network is model.network and world.tokenizer.fitted
    known = model.environment(str(walker(6, 1))).tokenizer
    assert torch.equal(world.tokenizer.change.low[:13], known.change.low[:13])
    assert world.tokenizer.change.width[-1] == known.change.width[-1]
    check_world_model(world, history(world))


def test_imagined_scalars_are_those_of_a_forward_over_the_same_tokens(model):
    """Decoding token by token uses the positions that training does."""
    world = model.environment(str(walker(4, 1))).with_decoding(bf16=False)
    past = history(world, steps=3)
    action = torch.zeros((2, world.spec.action_dim))
    _, step = world.step(world.start(past, horizon=1), action)
    # with parallel reading off and on, and one row or several
    for changes in ({"parallel": True}, {"parallel": False}, {"attention": "products"}):
        other = world.with_decoding(**changes)
        _, again = other.step(other.start(past, horizon=1), action)
        assert torch.allclose(again.observation, step.observation, atol=1e-4)


def test_a_body_with_scalars_that_were_not_trained_on_is_refused(model):
    larger = spec(7, 1)
    with pytest.raises(ValueError, match="max_action is 6, but the environment has 7"):
        model.for_spec(larger)
    few = dataclasses.replace(larger, action_dim=6)
    with pytest.raises(ValueError, match="the observation scalars hinge7_angle, hinge7_velocity"):
        model.for_spec(few)
    with pytest.raises(ValueError, match="does not know the observation scalars 0, 1, 2"):
        model.for_spec(spec_of(gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-1, 1, (4,))))


def test_a_transformer_of_an_unseen_body_begins_with_the_generalist(data, model):
    unseen = {"unseen": spec(5, 9)}
    tuned = TransformerWorldModel.build(unseen, CONFIG, seed=1, source=model)
    expected = model.for_spec(unseen["unseen"])
    assert tuned.config.names == model.config.names
    for name, value in expected.state_dict().items():
        assert torch.equal(tuned.state_dict()[name], value), name
    with pytest.raises(CheckpointError, match="does not fit"):
        TransformerWorldModel.build(unseen, TransformerConfig(), seed=1, source=model)


def test_environments_without_names_share_ranges_by_number(data):
    plain = {name: t.spec for name, t in data.items()}
    for name in plain:
        plain[name] = spec_of(plain[name].observation_space, plain[name].action_space)
    built = Generalist.build(plain, CONFIG, seed=0)
    built.fit(data)
    low, high = (built.environment(name).tokenizer.observation.low for name in data)
    assert torch.equal(low, high[: len(low)])


def test_a_loaded_generalist_acts_in_a_body_that_was_not_trained_on(model, tmp_path):
    seen = model.environment(str(walker(4, 1)))
    TDMAgent(seen, make_planner("mppi", horizon=2, num_samples=4)).save(tmp_path)
    model.save(tmp_path)
    env = walker(5, 9).make()
    agent = TDMAgent.load(tmp_path, env=env)
    observation, _ = env.reset(seed=0)
    agent.reset()
    assert agent.act(observation).shape == (5,)
    with pytest.raises(ValueError, match="max_action is 6, but the environment has 7"):
        TDMAgent.load(tmp_path, env=walker(7, 1).make())
    with pytest.raises(LookupError, match="expected one of this generalist's environments"):
        TDMAgent.load(tmp_path, env_id="tdm/WalkerChain-v0 dof=5 body=9")


def test_data_and_models_from_before_there_were_names_still_fit(data):
    (name, named), *_ = data.items()
    older = dataclasses.replace(named, info=dataclasses.replace(named.info, observation_names=()))
    for several in ([named, older], [older, named]):
        assert Trajectories.concatenate(several).spec.observation_names == named.spec.observation_names
    other = tuple(f"other_{i}" for i in range(named.observation_dim))
    renamed = dataclasses.replace(named, info=dataclasses.replace(named.info, observation_names=other))
    with pytest.raises(DataError, match="name their observation scalars differently"):
        Trajectories.concatenate([named, renamed])
    plain = dataclasses.replace(CONFIG, tokenizer=TokenizerConfig(bins=64))
    before = TransformerWorldModel.build({name: older.spec}, plain, seed=0)
    before.fit({name: older})
    after = TransformerWorldModel.build({name: named.spec}, plain, seed=1, source=before)
    assert torch.equal(after.network.head.weight, before.network.head.weight)
