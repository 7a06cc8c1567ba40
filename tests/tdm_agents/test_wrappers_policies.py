"""WithProposal and WithValue: policies and critics of others, asked about what a model imagines."""

from __future__ import annotations

import os

os.environ.setdefault("MUJOCO_GL", "disable")

import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import DQN, PPO, SAC, TD3

from tdm_agents.protocols import HasProposal, HasRollout, HasValue, History, ModelSpec, Step
from tdm_agents.testing import LinearQuadraticModel, check_world_model
from tdm_agents.world_models.iql.iql_config import IQLConfig
from tdm_agents.world_models.iql.iql_model import IQL
from tdm_agents.wrappers import RewardFunction, WithProposal, WithValue
from tdm_agents.wrappers.sb3 import batched_observation

CHOICES = (3, 2)
NET = {"net_arch": [8]}


class Still:
    """A world in which nothing moves, with the spaces of an environment."""

    def __init__(self, env):
        box = isinstance(env.action_space, spaces.Box)
        self.spec = ModelSpec(
            observation_space=env.observation_space,
            action_space=env.action_space,
            observation_dim=spaces.flatdim(env.observation_space),
            action_dim=spaces.flatdim(env.action_space) if box else 1,
            action_kind="continuous" if box else "discrete",
            action_choices=() if box else (int(env.action_space.n),),
        )

    def start(self, history, *, horizon):
        return history.observation[:, -1].clone()

    def step(self, state, action, *, generator=None):
        return state, Step(state, torch.zeros(len(state)), torch.ones(len(state), dtype=torch.bool))

    def take(self, state, rows):
        return state[rows]


class DictEnv(gym.Env):
    """Dict observations, and actions in units of their own."""

    observation_space = spaces.Dict(
        {
            "z": spaces.Box(-1, 1, (2,)),
            "a": spaces.Box(-9, 9, (1, 2), np.float64),
            "b": spaces.Box(0, 1, (1,)),
        }
    )
    action_space = spaces.Box(np.array([0.0, -4.0], np.float32), np.array([2.0, 8.0], np.float32))

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, True, {}


def observed(model, rows=4, seed=0):
    """Observations of the model's space, flat, and the model's state there."""
    space = model.spec.observation_space
    space.seed(seed)
    flat = torch.from_numpy(np.stack([spaces.flatten(space, space.sample()) for _ in range(rows)])).float()
    history = History.of_observation(
        flat, action_dim=model.spec.action_dim, discrete=model.spec.action_kind == "discrete"
    )
    return flat, model.start(history, horizon=3)


def spring(observation):
    """Pushes back to where it came from."""
    return (-observation[:, :1] - observation[:, 1:]).clamp(-1, 1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# -- functions --------------------------------------------------------------------------------------------


def test_a_function_is_asked_about_imagined_observations():
    model = WithProposal(LinearQuadraticModel(), spring)
    starts = torch.tensor([[0.5, 0.2], [-0.4, 0.3]])
    state = model.start(History.of_observation(starts, action_dim=1), horizon=3)
    assert torch.equal(model.propose(state, 3).actions, spring(starts)[:, None].expand(2, 3, 1))
    state, step = model.step(state, torch.ones(2, 1))
    assert torch.equal(model.propose(state, 1).actions[:, 0], spring(step.observation))
    assert torch.equal(
        model.propose(model.take(state, torch.tensor([1])), 1).actions[0, 0], spring(step.observation)[1]
    )


@settings(max_examples=10, deadline=None)
@given(std=st.sampled_from([0.0, 0.1, 3.0]), seed=st.integers(0, 9))
def test_noise_spreads_what_is_sampled_within_bounds_and_nothing_else(std, seed):
    model = WithProposal(LinearQuadraticModel(), spring, std=std)
    flat, state = observed_of(model)
    sampled = model.propose(state, 64, generator=generator(seed)).actions
    assert sampled.abs().max() <= 1.0
    assert torch.equal(sampled, model.propose(state, 64, generator=generator(seed)).actions)
    assert (sampled.std(dim=1) > 0.0).all() == (std > 0.0)
    certain = model.propose(state, 2, generator=generator(seed), deterministic=True).actions
    assert torch.equal(certain, spring(flat)[:, None].expand(3, 2, 1))


def observed_of(model):
    flat = torch.tensor([[0.5, 0.2], [-0.4, 0.3], [0.0, 0.1]])
    return flat, model.start(History.of_observation(flat, action_dim=1), horizon=3)


def test_a_function_is_a_value():
    model = WithValue(LinearQuadraticModel(), lambda o: o.sum(dim=1))
    flat, state = observed_of(model)
    assert torch.equal(model.value(state), flat.sum(dim=1))


def test_a_model_is_a_policy_and_a_value_for_another():
    inner = LinearQuadraticModel()
    given = IQL(inner.spec, IQLConfig(iql_hidden=8, iql_layers=1)).eval()
    model = WithValue(WithProposal(inner, given), given)
    observation = torch.rand(5, inner.spec.observation_dim, generator=torch.Generator().manual_seed(0))
    history = History.of_observation(observation, action_dim=inner.spec.action_dim)
    state, theirs = model.start(history, horizon=2), given.start(history, horizon=2)
    torch.testing.assert_close(model.value(state), given.value(theirs))
    best = given.propose(theirs, 2, deterministic=True).actions
    torch.testing.assert_close(model.propose(state, 2, deterministic=True).actions, best)
    state, step = model.step(state, best[:, 0])
    after = History.of_observation(step.observation, action_dim=inner.spec.action_dim)
    torch.testing.assert_close(model.value(state), given.value(given.start(after, horizon=1)))


def test_wrappers_nest_and_add_to_what_the_model_can():
    inner = LinearQuadraticModel()
    model = WithValue(WithProposal(RewardFunction(inner, lambda o, a, after: after[:, 0]), spring), norm)
    for capability in (HasProposal, HasValue):
        assert isinstance(model, capability)
        assert not isinstance(inner, capability)
    assert isinstance(model, HasRollout) == isinstance(inner, HasRollout)
    flat, state = observed_of(model)
    assert torch.equal(model.propose(state, 1).actions[:, 0], spring(flat))
    _, step = model.step(state, torch.zeros(3, 1))
    assert torch.equal(step.reward, step.observation[:, 0])


def test_the_outermost_policy_and_critic_count():
    model = WithProposal(WithProposal(LinearQuadraticModel(), spring), lambda o: torch.ones(len(o), 1))
    _, state = observed_of(model)
    assert (model.propose(state, 2).actions == 1).all()
    model = WithValue(WithValue(LinearQuadraticModel(), norm), lambda o: 7 * torch.ones(len(o)))
    assert (model.value(observed_of(model)[1]) == 7).all()


def norm(observation):
    return -observation.square().sum(dim=1)


def test_they_travel_between_processes():
    model = pickle.loads(pickle.dumps(WithValue(WithProposal(LinearQuadraticModel(), spring, std=0.5), norm)))
    assert isinstance(model, HasValue)
    assert model.model.std == 0.5


def test_the_world_model_contract_holds():
    model = WithValue(WithProposal(LinearQuadraticModel(), spring, std=0.2), norm)
    starts = torch.tensor([[0.5, 0.2], [-0.4, 0.3]])
    check_world_model(model, History.of_observation(starts, action_dim=1))


# -- Stable-Baselines3 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [PPO, SAC, TD3])
def test_an_sb3_policy_acts_on_its_own_observations_in_its_own_units(algorithm):
    env = DictEnv()
    trained = algorithm("MultiInputPolicy", env, policy_kwargs=dict(NET), seed=0, device="cpu")
    model = WithProposal(Still(env), trained)
    flat, state = observed(model)
    certain = model.propose(state, 2, deterministic=True).actions
    assert certain.shape == (4, 2, 2)
    assert certain.abs().max() <= 1
    for row in range(4):
        ours = {k: v[row] for k, v in batched_observation(env.observation_space, flat).items()}
        action, _ = trained.predict(ours, deterministic=True)
        physical = np.array([1.0, 2.0]) + np.array([1.0, 6.0]) * certain[row, 0].numpy()
        np.testing.assert_allclose(physical, action, atol=1e-5)


def test_an_sb3_policy_samples_from_the_generator_alone():
    env = DictEnv()
    model = WithProposal(
        Still(env), PPO("MultiInputPolicy", env, policy_kwargs=dict(NET), seed=0, device="cpu")
    )
    _, state = observed(model)
    before = torch.get_rng_state()
    first = model.propose(state, 8, generator=generator(1)).actions
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    assert torch.equal(first, model.propose(state, 8, generator=generator(1)).actions)
    assert not torch.equal(first, model.propose(state, 8, generator=generator(2)).actions)
    assert (first.std(dim=1) > 0).all()


def test_discrete_actions_count_from_zero():
    env = gym.make("CartPole-v1")
    trained = DQN("MlpPolicy", env, policy_kwargs=dict(NET), seed=0, device="cpu", buffer_size=10)
    model = WithProposal(Still(env), trained)
    flat, state = observed(model)
    actions = model.propose(state, 1).actions
    assert actions.dtype == torch.int64
    assert actions[:, 0, 0].tolist() == trained.policy.predict(flat.numpy(), deterministic=True)[0].tolist()


def test_an_sb3_critic_is_a_value():
    env = DictEnv()
    made = {
        a: a("MultiInputPolicy", env, policy_kwargs=dict(NET), seed=0, device="cpu") for a in (PPO, SAC, TD3)
    }
    for algorithm, trained in made.items():
        model = WithValue(Still(env), trained)
        flat, state = observed(model)
        tensors, _ = trained.policy.obs_to_tensor(batched_observation(env.observation_space, flat))
        with torch.no_grad():
            if algorithm is PPO:
                expected = trained.policy.predict_values(tensors)[:, 0]
            else:
                mean = trained.policy._predict(tensors, deterministic=True)
                expected = torch.minimum(*trained.policy.critic(tensors, mean))[:, 0]
        torch.testing.assert_close(model.value(state), expected)
    cartpole = gym.make("CartPole-v1")
    trained = DQN("MlpPolicy", cartpole, policy_kwargs=dict(NET), seed=0, device="cpu", buffer_size=10)
    model = WithValue(Still(cartpole), trained)
    flat, state = observed(model)
    with torch.no_grad():
        torch.testing.assert_close(model.value(state), trained.q_net(flat).max(dim=1).values)


def test_batched_observations_are_those_of_the_space():
    space = spaces.Dict(
        {
            "tuple": spaces.Tuple([spaces.Discrete(3, start=2), spaces.Box(-1, 1, (2, 1))]),
            "box": DictEnv.action_space,
        }
    )
    space.seed(0)
    samples = [space.sample() for _ in range(3)]
    flat = torch.from_numpy(np.stack([spaces.flatten(space, s) for s in samples])).float()
    batch = batched_observation(space, flat)
    for row, sample in enumerate(samples):
        np.testing.assert_array_equal(batch["tuple"][0][row], sample["tuple"][0])
        np.testing.assert_allclose(batch["tuple"][1][row], sample["tuple"][1])
        np.testing.assert_allclose(batch["box"][row], sample["box"])


# -- refusing ---------------------------------------------------------------------------------------------


def test_what_is_no_policy_or_critic_is_refused():
    inner = LinearQuadraticModel()
    with pytest.raises(
        TypeError, match=r"policy is a int; expected something with Stable-Baselines3's predict"
    ):
        WithProposal(inner, 3)
    with pytest.raises(TypeError, match=r"critic is a int; expected a Stable-Baselines3 policy"):
        WithValue(inner, 3)
    with pytest.raises(ValueError, match=r"std is -1.0; expected a finite number of at least 0"):
        WithProposal(inner, spring, std=-1.0)
    with pytest.raises(ValueError, match=r"std is 0.5, but actions are discrete"):
        WithProposal(Still(gym.make("CartPole-v1")), spring, std=0.5)


def test_answers_of_another_shape_are_refused():
    model = WithProposal(LinearQuadraticModel(), lambda o: o)
    with pytest.raises(ValueError, match=r"returned shape \(3, 2\) for 3 observations; expected \(3, 1\)"):
        model.propose(observed_of(model)[1], 1)
    model = WithValue(LinearQuadraticModel(), lambda o: o[:, :1])
    with pytest.raises(
        ValueError, match=r"the critic returned shape \(3, 1\) for 3 observations; expected \[3\]"
    ):
        model.value(observed_of(model)[1])


def test_answers_that_are_no_tensors_are_refused():
    model = WithProposal(LinearQuadraticModel(), lambda o: o[:, :1].numpy())
    with pytest.raises(TypeError, match=r"returned a NumPy array; expected a torch.Tensor of shape \(3, 1\)"):
        model.propose(observed_of(model)[1], 1)
    model = WithValue(LinearQuadraticModel(), lambda o: 0.0)
    with pytest.raises(TypeError, match=r"critic returned a float; expected a torch.Tensor of shape \(3,"):
        model.value(observed_of(model)[1])


def test_a_policy_of_another_environment_is_refused_before_it_is_asked():
    def ppo(env):
        return PPO("MlpPolicy", env, policy_kwargs=dict(NET), seed=0, device="cpu", n_steps=8, batch_size=8)

    pendulum = gym.make("Pendulum-v1")
    rescaled = gym.wrappers.RescaleAction(pendulum, -1.0, 1.0)
    model = Still(pendulum)
    for wrap in (WithProposal, WithValue):
        with pytest.raises(ValueError, match=r"observation_space of PPO .*the model's is .* trained on the"):
            wrap(model, ppo(gym.make("CartPole-v1")))
        with pytest.raises(ValueError, match=r"action_space of PPO is .*the model's is .* behind wrappers"):
            wrap(model, ppo(rescaled))
        wrap(model, ppo(pendulum).policy)


def test_a_policy_without_a_known_critic_is_refused():
    class Acts:
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return np.zeros((len(observation), 1)), None

    with pytest.raises(TypeError, match=r"Acts has no known critic.*pass a function"):
        WithValue(LinearQuadraticModel(), Acts())
    env = gym.make("CartPole-v1")
    model = WithProposal(Still(env), Acts())
    with pytest.raises(ValueError, match=r"Acts.predict returned shape \(4, 1\).*expected \(4,\)"):
        model.propose(observed(model)[1], 1)
