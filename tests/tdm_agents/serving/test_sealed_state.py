"""States come back as they went, and only to the server that made them."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from served_agents import KEY, observations, small_agent
from small_transformer import make_model

from tdm_agents import TDMAgent, make_planner
from tdm_agents.agent.predict import PredictState
from tdm_agents.errors import WrongValueError
from tdm_agents.serving.sealed_state import Seals, _leaves


def after_some_steps(agent, rows, steps=3):
    state = None
    shape = (steps, rows, agent.model.spec.observation_dim)
    for observation in np.random.default_rng(0).normal(size=shape).astype(np.float32):
        _, state = agent.predict(observation, state)
    return state


def agents():
    return {
        "mppi": small_agent(),
        "cem, some decisions per plan": small_agent("cem", replan_every=3, action_repeat=2),
        "a policy": small_agent("policy"),
        "choices": small_agent("cem", action=spaces.MultiDiscrete([3, 2])),
        "a long history": TDMAgent(make_model(3, 2), make_planner("cem", horizon=2, num_samples=7)),
    }


@pytest.mark.parametrize("name", agents())
@pytest.mark.parametrize("rows", [1, 3])
def test_a_state_comes_back_to_the_last_bit(name, rows):
    agent = agents()[name]
    state = after_some_steps(agent, rows)
    seals = Seals(agent, KEY)
    data = seals.sealed(state)
    assert len(data) == seals.size(rows)
    found = seals.opened(data)
    assert isinstance(found, PredictState) and torch.equal(found.random, state.random)
    for one, other in zip(_leaves(found.memory), _leaves(state.memory), strict=True):
        assert one.dtype == other.dtype and torch.equal(one.nan_to_num(7), other.nan_to_num(7))
    observation = observations(1, rows)[0]
    assert (agent.predict(observation, found)[0] == agent.predict(observation, state)[0]).all()


def test_an_altered_state_is_refused():
    agent = small_agent()
    data = Seals(agent, KEY).sealed(after_some_steps(agent, 2))
    generator = np.random.default_rng(0)
    for place in (*range(60), *generator.integers(0, len(data), 100)):
        altered = bytearray(data)
        altered[place] ^= 1 << int(generator.integers(8))
        with pytest.raises(WrongValueError, match="altered"):
            Seals(agent, KEY).opened(bytes(altered))
    for length in (0, 10, 40, len(data) - 1):
        with pytest.raises(WrongValueError, match="altered"):
            Seals(agent, KEY).opened(data[:length])
    with pytest.raises(WrongValueError, match="another key"):
        Seals(agent, b"another key of thirty-two bytes.").opened(data)


@pytest.mark.parametrize(
    "other",
    [
        small_agent("cem"),
        small_agent(num_samples=9),
        small_agent(replan_every=2),
        small_agent(action=spaces.Box(-1.0, 1.0, (2,), np.float32)),
    ],
)
def test_a_state_of_another_agent_is_refused(other):
    agent = small_agent()
    data = Seals(agent, KEY).sealed(after_some_steps(agent, 1))
    with pytest.raises(WrongValueError, match="another agent"):
        Seals(other, KEY).opened(data)


def test_other_weights_are_another_agent_and_the_same_ones_are_not():
    first, second, third = small_agent(), small_agent(seed=5), small_agent()
    with torch.no_grad():
        next(iter(third.base_model.parameters())).mul_(1.001)
    names = [Seals(agent, KEY).name for agent in (first, second, third)]
    assert names[0] == names[1] != names[2]
