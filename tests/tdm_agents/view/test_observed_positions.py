"""Positions are read from observations wherever they stand in them, in whatever form."""

import numpy as np
import pytest

from tdm_agents.environments import EnvRef, seconds_per_step
from tdm_agents.spaces import ObservationCodec
from tdm_agents.view.imagined_poses import Kinematics, positions_of, velocities_of
from tdm_agents.view.live_physics import physics_of
from tdm_agents.view.observed_positions import ObservedPositions


def watched(env_id, steps=30):
    env = EnvRef.parse(env_id).make()
    observation, _ = env.reset(seed=0)
    env.action_space.seed(0)
    physics, codec = physics_of(env), ObservationCodec(env.observation_space)
    reader = ObservedPositions(physics.model)
    seen, states = [], []
    for _ in range(steps):
        state = physics.state()[0]
        seen.append(codec.flatten(observation))
        states.append(state)
        reader.learn(seen[-1], positions_of(state, physics.model), velocities_of(state, physics.model))
        observation = env.step(env.action_space.sample())[0]
    return reader, physics.model, np.stack(seen), np.stack(states), seconds_per_step(env)


@pytest.mark.parametrize(
    "env",
    [
        "dm_control/cartpole-swingup-v0",  # an angle as cosine and sine
        "dm_control/cheetah-run-v0",  # the root's place is not observed
        "HalfCheetah-v5",
        "Ant-v5",  # a quaternion
        "tdm/WalkerTree-v0 dof=4 body=3",  # two rows of a rotation matrix, velocity along the body's axes
    ],
)
def test_a_future_that_happened_is_drawn_where_it_happened(env):
    reader, model, seen, states, seconds = watched(env)
    start = positions_of(states[5], model)
    read = reader.positions(seen[None, 6:12], start, seconds)
    true = positions_of(states[6:12], model)
    kinematics = Kinematics(model)
    far = (kinematics.poses(read[0]).centre - kinematics.poses(true).centre)[:, 1:]  # without the world
    # exact but for the root's way, which is integrated from velocities at the steps' ends
    assert np.abs(far - far[:, :1]).max() < 1e-4
    assert np.abs(far).max() < 0.1


def test_nothing_is_read_before_enough_was_seen_or_where_positions_are_not_observed():
    reader, model, seen, states, seconds = watched("HalfCheetah-v5", steps=5)
    assert reader.positions(seen[None], positions_of(states[0], model), seconds) is None
    reader, model, seen, states, seconds = watched("dm_control/walker-walk-v0")
    assert reader.positions(seen[None], positions_of(states[0], model), seconds) is None
