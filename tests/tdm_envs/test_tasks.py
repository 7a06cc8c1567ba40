import gymnasium as gym
import numpy as np
import pytest
import torch

import tdm_envs  # noqa: F401  (registers environments)
from tdm_agents.protocols import History
from tdm_agents.spaces.actions import ActionCodec
from tdm_agents.world_models.simulator import SimulatorModel
from tdm_envs.suite import batched_task
from tdm_envs.tasks import batched_task_of
from tdm_envs.walkers.task import WalkerTask


def test_the_task_is_that_of_the_live_environment_whatever_it_is_called():
    swingup = "dm_control/cartpole-swingup-v0"
    for env_id in (swingup, f"tdm_envs:{swingup}"):
        assert batched_task_of(gym.make(env_id)) is batched_task(swingup) is not None
    assert batched_task_of(gym.make("Pendulum-v1")) is None


@pytest.mark.parametrize("family", ["Line", "Chain", "Bush", "Tree"])
def test_a_walker_is_simulated_to_the_last_bit_of_what_it_observes(family):
    env = gym.wrappers.TimeLimit(gym.make(f"tdm/Walker{family}-v0", dof=6, body=2), 50)
    task = batched_task_of(env)
    assert isinstance(task, WalkerTask)
    env.reset(seed=3)
    model = SimulatorModel(env, fast=task)
    rng = np.random.default_rng(0)
    for _ in range(5):
        action = torch.from_numpy(rng.uniform(-1, 1, (1, 6)).astype(np.float32))
        state = model.start(History.of_observation(torch.zeros(1, 25), action_dim=6), horizon=1)
        _, imagined = model.step(state, action)
        observation, reward, *_ = env.step(ActionCodec(env.action_space).decode(action[0].numpy()))
        np.testing.assert_array_equal(imagined.observation[0].numpy(), observation)
        assert imagined.reward.item() == pytest.approx(reward, abs=1e-6)
