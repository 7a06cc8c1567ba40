"""A walker's reward from what is observed, and the true simulator as a world model of walkers."""

from __future__ import annotations

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch

import tdm_envs  # noqa: F401  (registers the walkers)
from tdm_agents.protocols import History
from tdm_agents.world_models.simulator import SimulatorModel
from tdm_envs.walkers import FAMILIES
from tdm_envs.walkers.task import WalkerTask


def make(family="tree", dof=10):
    return gym.make(f"tdm/Walker{family.capitalize()}-v0", dof=dof, body=4)


def wild_states(walker, count):
    """States that no episode reaches, for which kinematics must hold as well."""
    rng = np.random.default_rng(0)
    model, data = walker.model, mujoco.MjData(walker.model)
    for _ in range(count):
        data.qpos[:] = rng.normal(size=model.nq)
        data.qpos[3:7] /= np.linalg.norm(data.qpos[3:7])
        data.qvel[:] = 3 * rng.normal(size=model.nv)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_comVel(model, data)
        mujoco.mj_subtreeVel(model, data)
        yield data.qpos.copy(), data.qvel.copy(), data.subtree_linvel[1, 0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dof", [4, 20])
def test_the_centre_of_mass_velocity_follows_from_the_observation(family, dof):
    env = make(family, dof)
    qpos, qvel, expected = (np.stack(x) for x in zip(*wild_states(env.unwrapped, 30), strict=True))
    task = WalkerTask(env)
    observation = torch.from_numpy(task.observe(qpos, qvel))
    np.testing.assert_allclose(task.velocity(observation), expected, atol=1e-12)
    np.testing.assert_allclose(task.velocity(observation.float()), expected, atol=1e-4)
    reward = task.reward(observation, torch.zeros(30, dof), observation)
    np.testing.assert_allclose(reward, np.maximum(0, 1 - np.abs(expected - 1)), atol=1e-12)


def test_a_guide_slopes_where_the_reward_is_flat_and_nowhere_else():
    env = make(dof=4)
    qpos, qvel, velocity = (np.stack(x) for x in zip(*wild_states(env.unwrapped, 30), strict=True))
    observation = torch.from_numpy(WalkerTask(env).observe(qpos, qvel))
    nothing = torch.zeros(30, 4)
    plain, guided = (WalkerTask(env, guide).reward(observation, nothing, observation) for guide in (0.0, 0.3))
    flat = plain.numpy() == 0
    assert flat.any() and not flat.all()
    np.testing.assert_allclose(guided[~flat], plain[~flat])
    np.testing.assert_allclose(guided[flat], 0.3 * (1 - np.abs(velocity[flat] - 1)), atol=1e-12)
    with pytest.raises(ValueError, match=r"guide is 1\.0; expected 0"):
        WalkerTask(env, 1.0)


def test_no_reward_comes_out_of_a_nan():
    task = WalkerTask(make(dof=10))
    observation = torch.zeros(2, 33)
    observation[1, 20] = torch.nan
    assert task.reward(observation, torch.zeros(2, 10), observation).isnan().tolist() == [False, True]


def test_the_simulator_imagines_what_the_walker_then_does():
    env = make(dof=10)
    observation, _ = env.reset(seed=0)
    model = SimulatorModel(env, fast=WalkerTask(env))
    actions = torch.rand(3, 20, 10, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for action in actions[0, :10].numpy():  # somewhere in an episode
        observation, *_ = env.step(action)
    start = model.start(
        History.of_observation(torch.from_numpy(observation)[None], action_dim=10), horizon=20
    )
    imagined = model.rollout(model.take(start, torch.zeros(3, dtype=torch.int64)), actions)
    state = env.unwrapped.state()
    for row in range(3):
        env.unwrapped.restore(state)
        for t, action in enumerate(actions[row].numpy()):
            observation, reward, *_ = env.step(action)
            assert np.array_equal(imagined.observation[row, t].numpy(), observation)
            assert imagined.reward[row, t].item() == pytest.approx(reward, abs=1e-6)


def test_other_environments_are_refused():
    with pytest.raises(TypeError, match="is not a procedural walker"):
        WalkerTask(gym.make("CartPole-v1"))
