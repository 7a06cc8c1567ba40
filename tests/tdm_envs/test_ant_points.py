"""An ant that runs to points: what it sees is the same in every direction, and what it earns is the way."""

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tdm_envs  # noqa: F401  (registers the environment)
from tdm_agents.world_models.simulator import SimulatorModel
from tdm_envs.ant_frame import SEEN, SIZE, matrix_of, towards
from tdm_envs.ant_points import FARTHEST, NEAR, REACHED, UPRIGHT

FINITE = st.floats(-5.0, 5.0)
ANGLE = st.floats(-np.pi, np.pi)


def product(one, other):
    """Of two quaternions, scalar first."""
    w, x, y, z = one
    a, b, c, d = other
    return np.array(
        [
            w * a - x * b - y * c - z * d,
            w * b + x * a + y * d - z * c,
            w * c - x * d + y * a + z * b,
            w * d + x * c - y * b + z * a,
        ]
    )


@st.composite
def ants(draw):
    ant = np.array(draw(st.lists(FINITE, min_size=27, max_size=27)))
    ant[1:5] = ant[1:5] / np.linalg.norm(ant[1:5]) if np.linalg.norm(ant[1:5]) > 0.1 else (1.0, 0.0, 0.0, 0.0)
    return ant


@given(ants(), ANGLE, ANGLE, st.floats(0.1, 20.0))
def test_it_sees_the_same_in_every_direction(ant, direction, turned, distance):
    offset = distance * np.array([np.cos(direction), np.sin(direction)])
    rotation = np.array([[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]])
    elsewhere = ant.copy()
    elsewhere[1:5] = product((np.cos(turned / 2), 0.0, 0.0, np.sin(turned / 2)), ant[1:5])
    elsewhere[13:15] = rotation @ ant[13:15]
    assert towards(elsewhere, rotation @ offset) == pytest.approx(towards(ant, offset), abs=1e-9)


def test_it_sees_how_fast_it_comes_nearer_and_how_far_it_is():
    ant = np.zeros(27)
    ant[0], ant[1], ant[14] = 0.75, 1.0, 2.0  # upright, and moving along y
    seen = towards(ant, np.array([0.0, 3.0]))
    assert seen.shape == (SIZE,)
    assert seen[15:18] == pytest.approx([2.0, 0.0, 0.0])
    assert tuple(seen[-2:]) == (3.0, 0.0)
    assert tuple(towards(ant, np.array([0.0, -0.5]))[-2:]) == (0.5, 1.0)
    assert towards(ant, np.array([30.0, 40.0]))[-2] == SEEN
    assert np.isfinite(towards(ant, np.zeros(2))).all()


@given(ants())
def test_orientations_are_rotations(ant):
    matrix = matrix_of(ant[1:5])
    assert matrix @ matrix.T == pytest.approx(np.eye(3), abs=1e-9)
    assert np.linalg.det(matrix) == pytest.approx(1.0)


@pytest.fixture
def env():
    made = gym.make("tdm/AntPoints-v0")
    yield made
    made.close()


def place(env, *, at=(0.0, 0.0), point=(4.0, 0.0), speed=(0.0, 0.0), orientation=(1.0, 0.0, 0.0, 0.0)):
    """Put the ant and its next point somewhere."""
    inner = env.unwrapped
    position, velocity = inner._ant.init_qpos.copy(), np.zeros(inner.model.nv)
    position[:2], position[3:7], velocity[:2] = at, orientation, speed
    inner._ant.set_state(position, velocity)
    inner._point = np.array(point)


def test_it_earns_the_way_towards_the_point(env):
    env.reset(seed=0)
    place(env, speed=(2.0, 0.0))
    _, nearer, terminated, _, _ = env.step(np.zeros(8, np.float32))
    assert not terminated and 1.0 + UPRIGHT < nearer < 2.5 + UPRIGHT
    place(env, speed=(-2.0, 0.0))
    assert env.step(np.zeros(8, np.float32))[1] < -1.0 + UPRIGHT


def test_where_it_reaches_a_point_there_is_another(env):
    env.reset(seed=0)
    place(env, point=(0.6, 0.0), speed=(6.0, 0.0))
    reached = False
    for _ in range(4):
        _, reward, _, _, info = env.step(np.zeros(8, np.float32))
        if reached := info["reached"]:
            break
    assert reached and reward > REACHED
    inner = env.unwrapped
    distance = np.linalg.norm(inner._point - inner.data.qpos[:2])
    assert NEAR < 1.0 <= distance <= FARTHEST + 1e-9


def test_a_planner_on_the_true_dynamics_is_refused(env):
    # what the ant sees and earns depends on points that are no part of the physics
    with pytest.raises(TypeError, match="no MuJoCo physics that can be rolled out"):
        SimulatorModel(env)


def test_on_its_back_the_episode_ends_and_earns_nothing_for_standing(env):
    env.reset(seed=0)
    place(env, orientation=(0.0, 1.0, 0.0, 0.0))
    _, reward, terminated, _, _ = env.step(np.zeros(8, np.float32))
    assert terminated and reward < UPRIGHT


def test_it_begins_in_any_orientation_and_the_same_for_a_seed(env):
    first = env.reset(seed=3)[0]
    assert (env.reset(seed=3)[0] == first).all()
    assert env.observation_space.contains(first)
    facing = []
    for seed in range(20):
        env.reset(seed=seed)
        facing.append(matrix_of(env.unwrapped.data.qpos[3:7])[0, 0])
    assert min(facing) < -0.5 and max(facing) > 0.5
