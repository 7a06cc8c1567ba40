"""Each reward function equals the environment's own, on states its episodes reach and on many they do not."""

from __future__ import annotations

import os

os.environ.setdefault("MUJOCO_GL", "disable")

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from dm_control.utils import rewards as dm_rewards
from hypothesis import given, settings
from hypothesis import strategies as st

import tdm_envs  # noqa: F401  (registers dm_control)
from tdm_envs.rewards import reward_function, tolerance, walker_velocity
from tdm_envs.suite import batched_task

IDS = [
    "dm_control/cartpole-swingup-v0",
    "dm_control/humanoid-stand-v0",
    "dm_control/walker-stand-v0",
    "dm_control/walker-walk-v0",
]


def random_transitions(env_id, episodes=12, steps=6):
    """Flat transitions and rewards of the real environment from states far from where its episodes begin."""
    env = gym.make(env_id)
    physics = env.unwrapped._env.physics
    rng = np.random.default_rng(0)
    rows = []
    for episode in range(episodes):
        observation, _ = env.reset(seed=episode)
        with physics.reset_context():
            position = physics.data.qpos.copy()
            physics.data.qpos[:] = position + rng.normal(scale=0.5, size=position.shape) * (episode % 3 > 0)
            physics.data.qvel[:] = rng.normal(scale=1.5 * (episode % 4), size=physics.data.qvel.shape)
        observation = env.unwrapped._env.task.get_observation(physics)
        for _ in range(steps):
            action = rng.uniform(env.action_space.low, env.action_space.high)
            after, reward, *_ = env.step(action)
            flat = [gym.spaces.flatten(env.observation_space, o) for o in (observation, after)]
            rows.append((flat[0], action, flat[1], reward))
            observation = after
    return tuple(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))


@pytest.mark.parametrize("env_id", IDS)
def test_it_equals_the_environments_own_reward(env_id):
    before, action, after, reward = random_transitions(env_id)
    fn = reward_function(env_id)
    torch.testing.assert_close(fn(before, action, after), reward, rtol=0, atol=1e-9)
    single = fn(before.float(), action.float(), after.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, reward.float(), rtol=0, atol=1e-5)
    assert reward.std() > 0.005  # the states tell good from bad


@pytest.mark.parametrize("env_id", IDS)
def test_nan_in_nan_out(env_id):
    before, action, after, _ = (x[:2] for x in random_transitions(env_id, episodes=1))
    after[1] = torch.nan
    reward = reward_function(env_id)(before, action, after)
    assert reward[0].isfinite()
    assert reward[1].isnan()


def test_the_walkers_velocity_follows_from_its_observation():
    env = gym.make("dm_control/walker-walk-v0")
    physics = env.unwrapped._env.physics
    rng = np.random.default_rng(1)
    for _ in range(20):
        physics.data.qpos[:] = rng.normal(size=physics.model.nq)
        physics.data.qvel[:] = rng.normal(scale=3, size=physics.model.nv)
        physics.forward()
        observation = gym.spaces.flatten(
            env.observation_space, env.unwrapped._env.task.get_observation(physics)
        )
        ours = walker_velocity(torch.from_numpy(observation)[None])
        np.testing.assert_allclose(ours.numpy(), physics.horizontal_velocity(), rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(-20, 20),
    lower=st.floats(-3, 3),
    width=st.one_of(st.floats(0, 3), st.just(np.inf)),
    margin=st.floats(0.05, 5),
    sigmoid=st.sampled_from(["gaussian", "linear", "quadratic"]),
    value=st.floats(0.01, 0.9),
)
def test_tolerance_is_dm_controls(x, lower, width, margin, sigmoid, value):
    ours = tolerance(
        torch.tensor([x], dtype=torch.float64),
        lower,
        lower + width,
        margin=margin,
        sigmoid=sigmoid,
        value_at_margin=value,
    )
    theirs = dm_rewards.tolerance(x, (lower, lower + width), margin, sigmoid, value)
    np.testing.assert_allclose(ours.item(), theirs, rtol=0, atol=1e-12)


def test_an_unknown_id_gets_the_known_ones():
    with pytest.raises(
        LookupError, match=r"did you mean 'dm_control/walker-walk-v0'.*known: .*humanoid-stand"
    ):
        reward_function("dm_control/walker-walk-v1")


def test_the_batched_cartpole_observes_what_the_environment_does():
    env = gym.make("dm_control/cartpole-swingup-v0")
    physics = env.unwrapped._env.physics
    task = batched_task("dm_control/cartpole-swingup-v0")
    assert task is not None
    rng = np.random.default_rng(0)
    qpos, qvel = rng.normal(scale=4, size=(2, 3, 10, 2))[:, 0]
    seen = task.observe(qpos, qvel)
    for position, velocity, ours in zip(qpos, qvel, seen, strict=True):
        physics.data.qpos[:], physics.data.qvel[:] = position, velocity
        physics.forward()
        theirs = gym.spaces.flatten(env.observation_space, env.unwrapped._env.task.get_observation(physics))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    assert batched_task("dm_control/walker-stand-v0") is None


def test_gymnasium_finds_the_suite_through_the_package():
    code = (
        "import gymnasium as gym, sys\n"
        "env = gym.make('tdm_envs:dm_control/cartpole-swingup-v0')\n"
        "assert env.reset(seed=0)[0]['position'].shape == (3,)\n"
        "assert not any(name.startswith('tdm_agents') for name in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("env_id", ["dm_control/cheetah", "dm_control/cheetah-run-v0", "dm_control/x"])
def test_an_id_that_is_near_none_gets_no_hint(env_id):
    with pytest.raises(LookupError, match=f"no reward function for '{env_id}'; known: "):
        reward_function(env_id)


def test_a_shortened_id_gets_its_hint():
    with pytest.raises(LookupError, match="did you mean 'dm_control/cartpole-swingup-v0'"):
        reward_function("cartpole-swingup")
