"""What environments hand over: several are several, and rewards are numbers, wherever they are read."""

import functools
import re

import gymnasium as gym
import h5py
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tdm_agents import SimulatorModel, TDMAgent, evaluate, make_planner
from tdm_agents.actors.agents import AgentFactory
from tdm_agents.actors.behaviour import RandomPolicy
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.episode import EpisodeFailedError, play
from tdm_agents.data.minari_io import DataError, describe, read_episodes, write_dataset
from tdm_agents.environments import EnvRef
from tdm_agents.errors import TDMError
from tdm_agents.testing import LinearQuadraticModel


class Paying(gym.Env):
    """Pays 1, but ``odd`` in its third step; an episode is five steps."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, odd=1.0):
        self.odd = odd

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        reward = self.odd if self.steps == 3 else 1.0
        return np.full(2, self.steps, np.float32), reward, False, self.steps == 5, {}


gym.register("Paying-v0", Paying)

ONE = {
    "integer": 7,
    "bool": True,
    "NumPy scalar": np.float32(7.0),
    "NumPy integer": np.int64(7),
    "array": np.array([7.0]),
    "array without axes": np.array(7.0),
    "array of two axes": np.array([[7]]),
    "tensor": torch.tensor([7.0]),
    "list": [7.0],
}
NONE = {
    "NaN": float("nan"),
    "infinite": np.float64("inf"),
    "beyond float32": 1e39,
    "array of NaN": np.array([np.nan]),
    "two": np.array([1.0, 2.0]),
    "no element": np.array([]),
    "None": None,
    "text": "7",
    "complex": 1j,
}
one = pytest.mark.parametrize("odd", ONE.values(), ids=ONE)
none = pytest.mark.parametrize("odd", NONE.values(), ids=NONE)


def an_agent():
    return TDMAgent(LinearQuadraticModel(), make_planner("random_shooting", horizon=2, num_samples=4))


def in_turn(agent, env, steps=5):
    """The sum of an attached environment's rewards as the agent was told them."""
    obs, _ = env.reset(seed=11)
    total = 0.0
    for _ in range(steps):
        obs, *_ = env.step(agent.act(obs))
        total += agent._link._reward.sum()
    return total


def a_set(odd):
    return DatasetSpec(
        name="paying",
        env=EnvRef("Paying-v0", {"odd": odd}),
        mix=((RandomPolicy(), 1),),
        max_steps=5,
    )


@one
def test_a_reward_of_one_element_is_a_number_wherever_it_is_read(odd):
    worth = 4.0 + float(np.asarray(odd).reshape(()))
    assert evaluate(lambda obs: np.zeros(1, np.float32), lambda: Paying(odd), [3, 4]).scores == [worth] * 2
    episode = play(Paying(odd), a_set(1.0), RandomPolicy(), 0)
    assert episode.reward.dtype == np.float32 and episode.reward.shape == (5,)
    assert episode.reward.sum() == worth
    agent = an_agent()
    assert in_turn(agent, agent.attach(Paying(odd))) == worth
    agent = an_agent()
    agent.reset()
    agent.act(np.zeros(2, np.float32))
    agent.act(np.zeros(2, np.float32), reward=odd)


@none
def test_any_other_reward_is_refused_with_its_step_and_seed(odd):
    with pytest.raises(TDMError, match=r"at environment step 2 of the episode with seed 4: reward .*ed"):
        evaluate(lambda obs: np.zeros(1, np.float32), lambda: Paying(odd), [4])
    with pytest.raises(EpisodeFailedError, match=r"step 2 after reset\(seed=\d+\): WrongValueError: reward"):
        play(Paying(odd), a_set(1.0), RandomPolicy(), 0)
    agent = an_agent()
    with pytest.raises(TDMError, match=r"at environment step 2 after reset\(seed=11\): reward .*expected"):
        in_turn(agent, agent.attach(Paying(odd)))


@pytest.mark.parametrize("name", [name for name in NONE if name not in ("None", "array of NaN")])
def test_the_agent_refuses_the_same(name):
    agent = an_agent()
    agent.reset()
    agent.act(np.zeros(2, np.float32))
    with pytest.raises(TDMError, match=r"reward .*expected"):
        agent.act(np.zeros(2, np.float32), reward=NONE[name])


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_a_member_of_a_vector_environment_is_named(mode):
    agent = an_agent()
    env = agent.attach(SyncVectorEnv([Paying, lambda: Paying(np.nan)], autoreset_mode=mode))
    with pytest.raises(TDMError, match=r"step 2 after reset\(seed=11\): reward in environment 1 is nan"):
        in_turn(agent, env)


def test_what_ended_rows_earn_is_not_read():
    agent = an_agent()
    env = agent.attach(SyncVectorEnv([Paying], autoreset_mode=AutoresetMode.DISABLED))
    env.reset()
    agent._link.step([1.0], [True])
    agent._link.step([np.nan], [True])  # waits for its reset
    obs, _ = env.reset()
    agent.act(obs)


@pytest.mark.parametrize("shape", [(-1, 1), (-1,)])
def test_stored_rewards_of_one_column_are_read(tmp_path, shape):
    path = written(tmp_path)
    reshape(path, shape)
    (episode,) = read_episodes(describe(path))
    assert episode.reward.tolist() == [1.0, 1.0, 7.0, 1.0, 1.0]


def test_other_stored_rewards_are_refused_with_their_episode(tmp_path):
    path = written(tmp_path)
    reshape(path, (1, -1))
    with pytest.raises(DataError, match=r"episode 0 of .*paying.*: rewards have shape \(1, 5\)"):
        list(read_episodes(describe(path)))


def written(folder):
    env = gym.make("Paying-v0", odd=7.0)
    episode = play(env, a_set(7.0), RandomPolicy(), 0)
    return write_dataset(folder / "paying", env, [episode], description="", metadata={})


def reshape(path, shape):
    with h5py.File(path / "main_data.hdf5", "a") as file:
        rewards = np.asarray(file["episode_0/rewards"], np.float64)
        del file["episode_0/rewards"]
        file["episode_0/rewards"] = rewards.reshape(shape)


# ---------------------------------------------------------------------- several are several


def shared(wrap=lambda env: env):
    env = gym.make("InvertedPendulum-v5")
    return lambda: wrap(env)


class SameInside(gym.Env):
    """A compatibility layer, new at every call, around one environment."""

    inside = Paying()

    def __init__(self):
        self._env = self.inside
        self.observation_space, self.action_space = self._env.observation_space, self._env.action_space


FACTORIES = {
    "itself": shared(),
    "in new wrappers": shared(lambda env: gym.wrappers.TimeLimit(env, 20)),
    "in a new compatibility layer": SameInside,
    "every second": functools.partial(next, iter([Paying(), (same := Paying()), Paying(), same])),
}


@pytest.mark.parametrize("make", FACTORIES.values(), ids=FACTORIES)
def test_one_environment_is_not_evaluated_as_several(make):
    with pytest.raises(TDMError, match=r"environments \d and \d are the same object, .*a new environment"):
        evaluate(lambda obs: np.zeros(1, np.float32), make, seeds=[0, 1, 2, 3])


def test_neither_where_an_id_makes_the_same_one():
    env = Paying()
    gym.register("Same-v0", lambda: env)
    with pytest.raises(TDMError, match="environments 0 and 1 are the same object"):
        evaluate(lambda obs: np.zeros(1, np.float32), "Same-v0", seeds=[0, 1])


def test_nor_imagined_or_attached_to_as_several():
    make = shared()
    message = "environments 0 and 1 are the same object"
    with pytest.raises(TDMError, match=message):
        SimulatorModel([make(), make()])
    with pytest.raises(TDMError, match=message):
        SimulatorModel(SyncVectorEnv([make, make]))
    with pytest.raises(TDMError, match=message):
        evaluate(AgentFactory(SimulatorModel, make_planner("random_shooting", horizon=2)), make, [0, 1])
    one = Paying()
    with pytest.raises(TDMError, match=message):
        an_agent().attach(SyncVectorEnv([lambda: one, lambda: one]))


def test_one_after_the_other_it_may_play():
    env = Paying()
    found = evaluate(lambda obs: np.zeros(1, np.float32), lambda: env, seeds=[0, 1, 2], batch=1)
    assert [e.length for e in found.episodes] == [5, 5, 5] and re.match("Paying", found.env_id)
