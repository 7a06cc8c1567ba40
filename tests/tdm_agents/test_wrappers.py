"""RewardFunction replaces the reward and nothing else."""

from __future__ import annotations

import os

os.environ.setdefault("MUJOCO_GL", "disable")

import pickle
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

import tdm_envs  # noqa: F401  (registers dm_control)
from tdm_agents.protocols import (
    HasOnly,
    HasProposal,
    HasRollout,
    HasValue,
    History,
    ModelSpec,
    Proposal,
    Rollout,
    Step,
    WorldModel,
    looped_rollout,
)
from tdm_agents.world_models.simulator import SimulatorModel
from tdm_agents.wrappers import RewardFunction
from tdm_envs.rewards import reward_function

N_OBS, N_ACT = 2, 2


@dataclass(frozen=True)
class Drift:
    """A closed-form world model, o' = o + a, whose own reward is -1."""

    repeat: int = 1

    @property
    def spec(self):
        return ModelSpec(
            observation_space=spaces.Box(-np.inf, np.inf, (N_OBS,)),
            action_space=spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float64),
            observation_dim=N_OBS,
            action_dim=N_ACT,
            action_repeat=self.repeat,
        )

    def start(self, history, *, horizon):
        return history.observation[:, -1].clone()

    def step(self, state, action, *, generator=None):
        after = state + action
        return after, Step(after, -torch.ones(len(after)), torch.ones(len(after), dtype=torch.bool))

    def take(self, state, rows):
        return state[rows]


class Rolling(Drift):
    def rollout(self, state, actions, *, generator=None):
        return looped_rollout(_without_rollout(self), state, actions)


class Proposing(Drift):
    def propose(self, state, count, *, generator=None, deterministic=False):
        return Proposal(torch.full((len(state), count, N_ACT), 0.5))

    def value(self, state):
        return state.sum(-1)


def _without_rollout(model):
    return Drift(model.repeat)


def total(observation, action, next_observation):
    """Tells its three arguments apart."""
    return observation.sum(-1) + 10 * action.sum(-1) + 100 * next_observation.sum(-1)


def begin(model, batch=3):
    observation = torch.arange(batch * 2 * N_OBS, dtype=torch.float32).reshape(batch, 2, N_OBS)
    history = History(
        observation, torch.zeros(batch, 2), torch.zeros(batch, 1, N_ACT), torch.full((batch,), 2)
    )
    return history, model.start(history, horizon=4)


def test_the_reward_is_of_the_transition_in_physical_units_for_every_step_held():
    model = RewardFunction(Drift(repeat=3), total)
    history, state = begin(model)
    action = torch.tensor([[0.5, -1.0], [1.0, 1.0], [-3.0, 0.0]])
    physical = torch.tensor([[1.0, 0.0], [2.0, 10.0], [-2.0, 5.0]])
    _, step = model.step(state, action)
    now = history.observation[:, -1]
    assert torch.equal(step.observation, now + action)
    assert torch.equal(step.reward, 3 * total(now, physical, now + action))


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 4), horizon=st.integers(1, 5), seed=st.integers(0, 99))
def test_a_rollout_equals_its_steps(rows, horizon, seed):
    actions = torch.rand(rows, horizon, N_ACT, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    model = RewardFunction(Rolling(2), total)
    whole = model.rollout(begin(model, rows)[1], actions)
    looped = looped_rollout(model, begin(model, rows)[1], actions)
    assert torch.equal(whole.observation, looped.observation)
    torch.testing.assert_close(whole.reward, looped.reward)
    assert torch.equal(whole.state.observation, looped.state.observation)
    assert isinstance(whole, Rollout)


def test_take_gathers_the_observation_with_the_state():
    model = RewardFunction(Drift(), total)
    _, state = begin(model)
    rows = torch.tensor([2, 0, 2])
    action = torch.rand(3, N_ACT, generator=torch.Generator().manual_seed(0))
    _, taken_first = model.step(model.take(state, rows), action[rows])
    _, stepped_first = model.step(state, action)
    assert torch.equal(taken_first.reward, stepped_first.reward[rows])


@pytest.mark.parametrize("inner", [Drift(), Rolling(), Proposing()])
def test_it_can_what_the_wrapped_model_can_and_no_more(inner):
    model = RewardFunction(inner, total)
    assert isinstance(model, WorldModel)
    assert isinstance(model, RewardFunction)
    for capability in (HasRollout, HasProposal, HasValue, HasOnly):
        assert isinstance(model, capability) == isinstance(inner, capability)
        assert isinstance(RewardFunction(model, total), capability) == isinstance(inner, capability)


def test_proposals_and_values_pass_through():
    model = RewardFunction(Proposing(), total)
    _, state = begin(model)
    assert model.propose(state, 4).actions.shape == (3, 4, N_ACT)
    assert torch.equal(model.value(state), state.observation.sum(-1))


def test_a_nan_prediction_never_earns_a_number():
    model = RewardFunction(Rolling(), lambda o, a, o2: torch.ones(len(o)))
    _, state = begin(model)
    state.inner[1, 0] = torch.nan
    reward = model.rollout(state, torch.zeros(3, 2, N_ACT)).reward
    assert reward[1].isnan().all()
    assert torch.equal(reward[[0, 2]], torch.ones(2, 2))


def test_a_reward_of_another_shape_is_refused():
    model = RewardFunction(Drift(), lambda o, a, o2: torch.ones(len(o), 1))
    _, state = begin(model)
    with pytest.raises(ValueError, match=r"shape \(3, 1\) for 3 rows; expected \[3\]"):
        model.step(state, torch.zeros(3, N_ACT))


def test_it_travels_between_processes():
    model = pickle.loads(pickle.dumps(RewardFunction(Proposing(2), total)))
    assert isinstance(model, HasProposal)
    assert model.spec.action_repeat == 2
    assert model.fn is total


def test_on_the_simulator_it_equals_the_task_and_narrows_with_it():
    envs = [gym.make("dm_control/cartpole-swingup-v0") for _ in range(2)]
    first = torch.from_numpy(
        np.stack([np.concatenate(list(e.reset(seed=s)[0].values())) for s, e in enumerate(envs)])
    ).float()
    inner = SimulatorModel(envs)
    model = RewardFunction(inner, reward_function("dm_control/cartpole-swingup-v0"))
    actions = torch.rand(2, 6, 1, generator=torch.Generator().manual_seed(0)) * 2 - 1
    truth = inner.rollout(inner.start(History.of_observation(first, action_dim=1), horizon=6), actions)
    ours = model.rollout(model.start(History.of_observation(first, action_dim=1), horizon=6), actions)
    torch.testing.assert_close(ours.reward, truth.reward, rtol=0, atol=1e-6)
    some = model.only([1])
    part = some.rollout(some.start(History.of_observation(first[1:], action_dim=1), horizon=6), actions[1:])
    assert torch.equal(part.reward, ours.reward[1:])
