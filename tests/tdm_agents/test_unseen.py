"""Entries that play a generalist where it was not trained, and those that go on from a recorded episode."""

import numpy as np
import pytest
import torch

from tdm_agents.actors.behaviour import RandomPolicy
from tdm_agents.actors.enter import enter
from tdm_agents.actors.entries import parse_entry
from tdm_agents.actors.prompts import best_episode
from tdm_agents.agent import TDMAgent
from tdm_agents.agent.agent_files import resolve
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import EnvRef
from tdm_agents.errors import TDMError
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.registry import make_planner
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.generalist import Generalist
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

SEEN, UNSEEN = EnvRef.parse("MountainCarContinuous-v0"), EnvRef.parse("Pendulum-v1")
POLICY = "unseen=true planner=policy"


@pytest.fixture(scope="module")
def generalist(tmp_path_factory):
    """A folder with a generalist of the mountain car, with random weights and tokens that need no data."""
    made = SEEN.make()
    spec = spec_of(made.observation_space, made.action_space, action_repeat=2)
    tokens = TokenizerConfig(observation="mu_law", target="absolute", bins=64)
    config = TransformerConfig(
        layers=1, width=16, heads=2, feedforward=16, context=40, tokenizer=tokens, max_observation=3
    )
    folder = tmp_path_factory.mktemp("unseen") / "model"
    model = Generalist.build({SEEN.name: spec}, config, seed=0)
    agent = TDMAgent(model.environment(SEEN.name), make_planner("mppi", horizon=2, num_samples=4))
    agent.save(folder)
    model.save(folder)  # of several, where the agent was of one
    return folder


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """Random episodes of the pendulum, and of the mountain car, in one collection."""
    folder = tmp_path_factory.mktemp("unseen") / "data"
    mix = ((RandomPolicy(), 3),)
    several = [
        DatasetSpec(name=name, env=env, mix=mix, action_repeat=2, max_steps=20)
        for name, env in (("car", SEEN), ("pendulum", UNSEEN))
    ]
    return collect(several, folder)


def test_a_generalist_plays_where_it_was_not_trained_if_it_is_told_so(generalist):
    entered = enter(parse_entry(f"{generalist} {POLICY}"), UNSEEN)
    assert entered.settings["unseen"] is True and entered.settings["action_repeat"] == 2
    played = evaluate(entered.contestant, UNSEEN, [0], max_steps=6)
    assert played.decisions == 3
    with pytest.raises(TDMError, match="expected one of this generalist's environments"):
        enter(parse_entry(f"{generalist} planner=policy"), UNSEEN)


def test_where_it_was_trained_it_plays_the_same_either_way(generalist):
    lines = (f"{generalist} planner=policy", f"{generalist} {POLICY}")
    scores = [evaluate(enter(parse_entry(line), SEEN).contestant, SEEN, [0], max_steps=6) for line in lines]
    assert scores[0].scores == scores[1].scores


def test_a_specialist_is_not_for_other_environments():
    with pytest.raises(TDMError, match="observation_space of the environment is"):
        enter(parse_entry(f"cartpole-swingup {POLICY}"), UNSEEN)
    with pytest.raises(TDMError, match="unseen is 'perhaps'; expected false, or true where"):
        enter(parse_entry("cartpole-swingup unseen=perhaps"), UNSEEN)


def test_the_prompt_is_the_best_episode_of_the_environment(collection):
    prompt, data = best_episode(collection, UNSEEN, action_repeat=2)
    recorded = Trajectories.from_minari(collection / "pendulum/data", action_repeat=2)
    returns = [np.nansum(recorded.episode(i).reward) for i in range(3)]
    assert data == collection / "pendulum/data"
    best = recorded.episode(int(np.argmax(returns)))
    np.testing.assert_array_equal(prompt.observation[0].numpy(), best.observation)
    with pytest.raises(TDMError, match="has no data of CartPole-v1"):
        best_episode(collection, EnvRef.parse("CartPole-v1"), action_repeat=2)


def test_an_entry_goes_on_from_the_prompt(generalist, collection):
    plain, prompted = (
        enter(parse_entry(f"{generalist} {POLICY}{more}"), UNSEEN) for more in ("", f" prompt={collection}")
    )
    observation = torch.zeros(1, 3, dtype=torch.float32, device="cpu")
    agent = prompted.contestant
    memory, _ = agent.decide(agent.initial_memory(1), observation)
    assert int(memory.length) == min(11, agent.model.spec.history_steps)
    assert len(prompted.settings["prompt"]) == 64 and "prompt" not in plain.settings


@pytest.mark.parametrize("family", ["Chain", "Line", "Bush", "Tree"])
def test_the_shipped_generalist_plays_walkers_that_nobody_has_data_of(family):
    ref = EnvRef(f"tdm/Walker{family}-v0", {"dof": 5, "body": 12345})
    env = ref.make()
    agent = TDMAgent.load("walkers", env=env, num_samples=4, horizon=3)
    assert agent.model.spec.action_dim == 5 and agent.planner.warm_start
    played = evaluate(agent, ref, [0], max_steps=6)
    assert played.decisions == 3 and np.isfinite(played.scores).all()


def test_the_shipped_generalist_is_small_and_says_what_it_does_not_know():
    folder = resolve("walkers")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12e6
    env = EnvRef("tdm/WalkerTree-v0", {"dof": 12, "body": 3}).make()
    with pytest.raises(TDMError, match="max_action is 10, but the environment has 12"):
        TDMAgent.load("walkers", env=env)
    with pytest.raises(TDMError, match="does not know the observation scalar"):
        TDMAgent.load("walkers", env=EnvRef("Pendulum-v1").make())
