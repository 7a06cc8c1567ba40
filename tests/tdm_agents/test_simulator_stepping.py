"""The simulator on Gymnasium's MuJoCo environments: their own steps, and their own ends."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tdm_agents.protocols import History, looped_rollout
from tdm_agents.spaces import ActionCodec, ObservationCodec
from tdm_agents.testing import check_world_model
from tdm_agents.world_models.simulator import SimulatorModel

ENDING = ["Hopper-v5", "InvertedDoublePendulum-v5", "InvertedPendulum-v5"]
"""``InvertedDoublePendulum`` observes constraint forces and ends by a site's position, which both lag."""


def live(env_id, *, seed=0, steps=3):
    env = gym.make(env_id)
    env.reset(seed=seed)
    env.action_space.seed(seed)
    for _ in range(steps):
        env.step(env.action_space.sample())
    return env


def start(model, horizon=5):
    n, m = model.spec.observation_dim, model.spec.action_dim
    return model.start(History.of_observation(torch.zeros(1, n), action_dim=m), horizon=horizon)


def sequences(model, rows, horizon, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, horizon, model.spec.action_dim, generator=generator) * 2 - 1


def play(env, sequence, repeat):
    """Flat observations, rewards and alive of each decision until the real environment ends or they do."""
    codec, flat = ActionCodec(env.action_space), ObservationCodec(env.observation_space)
    observations, rewards, alive = [], [], []
    for action in sequence.numpy():
        total, terminated = 0.0, False
        for _ in range(repeat):
            observation, reward, terminated, _, _ = env.step(codec.decode(action))
            total += float(reward)
            if terminated:
                break
        observations.append(flat.flatten(observation))
        rewards.append(total)
        alive.append(not terminated)
        if terminated:
            break
    return torch.from_numpy(np.stack(observations)), torch.tensor(rewards), torch.tensor(alive)


@pytest.mark.parametrize("env_id", ENDING)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000), steps=st.integers(0, 4), repeat=st.integers(1, 3))
def test_it_foresees_random_episodes_to_their_end(env_id, seed, steps, repeat):
    env = live(env_id, seed=seed, steps=steps)
    model = SimulatorModel(env, action_repeat=repeat)
    sequence = sequences(model, 1, 60 // repeat, seed)

    imagined = model.rollout(start(model), sequence)
    observation, reward, alive = play(env, sequence[0], repeat)

    length = len(alive)
    assert torch.equal(imagined.observation[0, :length], observation)
    assert torch.equal(imagined.reward[0, :length], reward)
    assert torch.equal(imagined.alive[0, :length], alive)
    assert not imagined.alive[0, length:].any()
    assert not imagined.reward[0, length:].any()


@pytest.mark.parametrize("env_id", ENDING)
def test_random_actions_end_in_imagination_too(env_id):
    model = SimulatorModel(live(env_id))
    rows = torch.zeros(4, dtype=torch.int64)
    imagined = model.rollout(model.take(start(model), rows), sequences(model, 4, 150))
    assert model.spec.terminates
    assert not imagined.alive[:, -1].any()
    assert imagined.alive[:, 0].all()


def test_an_environment_without_ends_does_not_end():
    env = live("HalfCheetah-v5")
    model = SimulatorModel(env, action_repeat=2)
    sequence = sequences(model, 1, 5)
    imagined = model.rollout(start(model), sequence)
    observation, reward, _ = play(env, sequence[0], 2)
    assert imagined.alive.all()
    assert torch.equal(imagined.observation[0], observation)
    assert torch.equal(imagined.reward[0], reward)


def test_imagining_does_not_disturb_the_live_environment():
    env, other = live("Hopper-v5"), live("Hopper-v5")
    model = SimulatorModel(env)
    for _ in range(2):
        model.rollout(start(model), sequences(model, 1, 40))
    for _ in range(10):
        action = other.action_space.sample()
        for a, b in zip(env.step(action), other.step(action), strict=True):
            np.testing.assert_equal(a, b)


def test_an_ended_row_stays_ended_and_earns_nothing():
    model = SimulatorModel(live("InvertedDoublePendulum-v5"))
    sequence = torch.ones(1, 40, 1)
    whole = model.rollout(start(model), sequence)
    length = int(whole.alive.sum()) + 1
    assert length < 30
    first = model.rollout(start(model), sequence[:, :length])
    assert first.state.ended.tolist() == [True]
    later = model.rollout(model.take(first.state, torch.tensor([0, 0])), sequence[:, :5].expand(2, 5, 1))
    assert not later.alive.any()
    assert not later.reward.any()
    assert later.state.ended.all()
    looped = looped_rollout(model, start(model), sequence)
    for name in ("observation", "reward", "alive"):
        assert torch.equal(getattr(looped, name), getattr(whole, name))


def test_threads_change_nothing():
    env = live("Hopper-v5")
    rows = torch.zeros(5, dtype=torch.int64)
    one, two = (SimulatorModel(env, 2, threads=t) for t in (1, 2))
    sequence = sequences(one, 5, 10)
    a, b = (m.rollout(m.take(start(m), rows), sequence) for m in (one, two))
    assert torch.equal(a.observation, b.observation)
    assert torch.equal(a.reward, b.reward)
    assert torch.equal(a.alive, b.alive)


def test_it_keeps_the_contract_of_world_models():
    env = live("Hopper-v5")
    model = SimulatorModel([env, live("Hopper-v5", seed=1)], action_repeat=2)
    history = History.of_observation(torch.zeros(2, 11), action_dim=3)
    check_world_model(model, history, horizon=12, reads_history=False)
