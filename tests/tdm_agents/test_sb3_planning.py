"""Policies and critics that Stable-Baselines3 trained, as proposals and values of a world model."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3

from tdm_agents import TDMAgent, make_planner
from tdm_agents.protocols import ModelSpec, Step
from tdm_agents.spaces import ObservationCodec
from tdm_agents.spaces.actions import action_codec
from tdm_agents.wrappers import WithProposal, WithValue

POSE = spaces.Dict(
    {
        "z": spaces.Box(-1, 1, (2, 1)),
        "gear": spaces.Discrete(3),
        "a": spaces.Box(-9, 9, (2,), np.float64),
        "lamps": spaces.MultiBinary(2),
    }
)
FLAT = spaces.Box(-1, 1, (3,), np.float32)
UNITS = spaces.Box(np.float32([0, -4]), np.float32([2, 8]))


class Task(gym.Env):
    """Any spaces; earns how close the action comes to a fixed one. Episodes of five steps."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space
        self.codec = action_codec(action_space)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 5
        return self.observation_space.sample(), {}

    def step(self, action):
        assert action in self.action_space
        self.left -= 1
        return self.observation_space.sample(), float(np.mean(action)), False, self.left == 0, {}


class Still:
    """A world in which nothing moves, with the spaces of an environment."""

    def __init__(self, env):
        codec = env.codec
        choices = getattr(codec, "choices", ())
        self.spec = ModelSpec(
            observation_space=env.observation_space,
            action_space=env.action_space,
            observation_dim=ObservationCodec(env.observation_space).dim,
            action_dim=codec.dim,
            action_kind="discrete" if choices else "continuous",
            action_choices=choices,
        )

    def start(self, history, *, horizon):
        return history.observation[:, -1].clone()

    def step(self, state, action, *, generator=None):
        return state, Step(state, action.float().sum(dim=1), torch.ones(len(state), dtype=torch.bool))

    def take(self, state, rows):
        return state[rows]


def trained(algorithm, env):
    """After a few steps of training, which fill in what a new policy has not got yet."""
    small = {"n_steps": 16, "batch_size": 16} if algorithm is PPO else {"n_steps": 8}
    if algorithm in (SAC, TD3, DQN):
        small = {"learning_starts": 4, "batch_size": 4, "buffer_size": 32}
    kind = "MultiInputPolicy" if isinstance(env.observation_space, spaces.Dict) else "MlpPolicy"
    settings = {"policy_kwargs": {"net_arch": [8]}, "seed": 0, "device": "cpu"}
    return algorithm(kind, env, **settings, **small).learn(16)


CASES = [
    (PPO, POSE, UNITS),
    (SAC, POSE, UNITS),
    (TD3, FLAT, UNITS),
    (TD3, POSE, spaces.Box(-2.0, 2.0, (2, 2))),
    (DQN, FLAT, spaces.Discrete(3)),
    (DQN, POSE, spaces.Discrete(2)),
    (A2C, POSE, spaces.MultiDiscrete([3, 2])),
    (PPO, FLAT, spaces.MultiDiscrete([2, 4])),
]


@pytest.mark.parametrize(("algorithm", "observation_space", "action_space"), CASES)
def test_the_planner_policy_does_what_the_sb3_policy_does(algorithm, observation_space, action_space):
    env = Task(observation_space, action_space)
    policy = trained(algorithm, env)
    agent = TDMAgent(WithProposal(Still(env), policy), make_planner("policy"))
    observation_space.seed(3)
    for _ in range(4):
        obs = observation_space.sample()
        agent.reset()
        action, (expected, _) = agent.act(obs), policy.predict(obs, deterministic=True)
        assert action in action_space
        np.testing.assert_allclose(action, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("algorithm", "observation_space", "action_space"), CASES)
@pytest.mark.parametrize("name", ["proposal_shooting", "beam_search", "random_shooting"])
def test_planners_search_with_sb3_policies_and_critics(name, algorithm, observation_space, action_space):
    env = Task(observation_space, action_space)
    policy = trained(algorithm, env)
    model = WithValue(WithProposal(Still(env), policy), policy)
    agent = TDMAgent(model, make_planner(name, horizon=2), seed=0)
    agent.reset()
    obs, _ = env.reset(seed=0)
    done = False
    while not done:
        obs, _, _, done, _ = env.step(agent.act(obs))
    assert agent.last_plan.plan.value.isfinite().all()
