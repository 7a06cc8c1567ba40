"""Ghosts of the simulator are where the planner saw the body, to the last bit where it is played again."""

import numpy as np
import pytest
import torch

from tdm_agents import SimulatorModel
from tdm_agents.environments import EnvRef, seconds_per_step
from tdm_agents.protocols import History
from tdm_agents.view.imagined_poses import Kinematics, imagined_positions, positions_of
from tdm_agents.view.live_physics import physics_of
from tdm_agents.view.observed_positions import ObservedPositions
from tdm_agents.view.snapshots import PlanSeen


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "dm_control/cartpole-swingup-v0"])
def test_they_end_where_the_simulator_ends(env_id):
    env = EnvRef.parse(env_id).make()
    env.reset(seed=0)
    physics, repeat, horizon = physics_of(env), 2, 3
    model = SimulatorModel(env, action_repeat=repeat)
    m = model.spec.action_dim
    actions = torch.rand((4, horizon, m), generator=torch.Generator().manual_seed(0)) * 2 - 1
    start = History.of_observation(torch.zeros(1, model.spec.observation_dim), action_dim=m)
    rows = model.take(model.start(start, horizon=horizon), torch.zeros(4, dtype=torch.int64))
    after = model.rollout(rows, actions).state
    state, warm = physics.state()
    low, high = env.action_space.low, env.action_space.high
    plan = PlanSeen(
        number=1,
        actions=((high + low) / 2 + (high - low) / 2 * actions.numpy()).astype(np.float32),
        values=np.zeros(4, np.float32),
        observation=None,
        considered=(),
        physics=state,
        warmstart=warm,
        true=True,
        milliseconds=1.0,
    )
    positions = imagined_positions(
        plan,
        physics.model,
        ObservedPositions(physics.model),
        steps=physics.sub_steps * repeat,
        seconds=seconds_per_step(env) * repeat,
    )
    assert positions.shape == (4, horizon, physics.model.nq)
    np.testing.assert_array_equal(positions[:, -1], positions_of(after.physics, physics.model))


def test_poses_are_mujocos_and_nan_stays_nan():
    env = EnvRef.parse("HalfCheetah-v5").make()
    env.reset(seed=0)
    physics = physics_of(env)
    qpos = positions_of(physics.state()[0], physics.model)
    poses = Kinematics(physics.model).poses(np.stack([qpos, np.full_like(qpos, np.nan)]))
    np.testing.assert_allclose(poses.position[0], physics.data.xpos, atol=1e-12)
    np.testing.assert_allclose(poses.centre[0], physics.data.xipos, atol=1e-12)
    assert np.isnan(poses.position[1]).all()
