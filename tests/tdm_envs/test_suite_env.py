"""The suite under ``tdm/Suite-v0``: Shimmy's episodes without Shimmy's mistakes."""

from __future__ import annotations

import os

os.environ.setdefault("MUJOCO_GL", "disable")

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import tdm_envs  # noqa: F401  (registers the environments)
from tdm_envs.suite_env import SuiteEnv
from tdm_envs.walkers import PhysicsDivergedError


def make(domain, task, **kwargs):
    return gym.make("tdm/Suite-v0", domain=domain, task=task, **kwargs)


def zeros(env):
    return np.zeros(env.action_space.shape, env.action_space.dtype)


# ---- what is the same


@pytest.mark.parametrize(
    ("domain", "task"), [("walker", "walk"), ("finger", "spin"), ("fish", "swim"), ("quadruped", "walk")]
)
def test_the_same_seed_is_the_episode_that_shimmy_plays(domain, task):
    ours, theirs = make(domain, task), gym.make(f"dm_control/{domain}-{task}-v0")
    rng = np.random.default_rng(0)
    for seed in (3, None):  # and on, with the same generator
        observed, expected = ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0]
        for _ in range(15):
            flat = spaces.flatten(theirs.observation_space, expected)
            assert np.array_equal(observed, flat.astype(np.float32))
            action = rng.uniform(ours.action_space.low, ours.action_space.high).astype(np.float32)
            (observed, reward, *_), (expected, their_reward, *_) = ours.step(action), theirs.step(action)
            assert reward == their_reward


# ---- what Shimmy does wrong today; a test that fails here says that a part of SuiteEnv can go


def test_shimmys_render_fps_is_wrong_and_of_whichever_environment_was_made_last():
    shimmys = gym.make("dm_control/walker-walk-v0")
    assert shimmys.metadata["render_fps"] == 25  # 1000 x 0.025 s
    gym.make("dm_control/cartpole-swingup-v0")
    assert shimmys.metadata["render_fps"] == 10

    walker, cartpole = make("walker", "walk"), make("cartpole", "swingup")
    assert walker.metadata["render_fps"] == 40 == 1 / walker.unwrapped.dt
    assert cartpole.metadata["render_fps"] == 100


def test_shimmys_time_limit_is_not_told_and_starts_another_episode_unasked():
    shimmys = gym.make("dm_control/cartpole-swingup-v0")
    assert shimmys.spec.max_episode_steps is None
    shimmys.reset(seed=0)
    ends = [shimmys.step(zeros(shimmys))[2:4] for _ in range(1000)]
    assert ends[-2:] == [(False, False), (False, True)]
    after, *_ = shimmys.step(np.ones_like(zeros(shimmys)))
    assert np.linalg.norm(after["velocity"]) < 0.05 < 1  # a start, whatever the action

    ours = make("cartpole", "swingup")
    assert ours.spec.max_episode_steps == 1000
    ours.reset(seed=0)
    ends = [ours.step(zeros(ours))[2:4] for _ in range(1000)]
    assert ends[-2:] == [(False, False), (False, True)]
    assert ours.unwrapped.data.time == pytest.approx(10.0)
    ours.step(zeros(ours))
    assert ours.unwrapped.data.time == pytest.approx(10.01)  # goes on until somebody resets it


def test_the_time_limit_can_be_another():
    env = make("walker", "run", max_episode_steps=3)
    env.reset(seed=0)
    assert [env.step(zeros(env))[2:4] for _ in range(3)] == [(False, False)] * 2 + [(False, True)]


def test_shimmys_observations_are_dictionaries_of_float64_in_two_orders():
    shimmys = gym.make("dm_control/walker-walk-v0")
    observation, _ = shimmys.reset(seed=0)
    assert list(observation) == ["orientations", "height", "velocity"]
    assert list(shimmys.observation_space) == ["height", "orientations", "velocity"]
    assert {array.dtype for array in observation.values()} == {np.dtype(np.float64)}
    assert shimmys.action_space.dtype == np.float64
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="0d arrays"):
        sb3_check_env(shimmys, skip_render_check=True)

    ours = make("walker", "walk")
    assert ours.observation_space == spaces.Box(-np.inf, np.inf, (24,), np.float32)
    assert ours.action_space == spaces.Box(-1, 1, (6,), np.float32)
    names = ours.unwrapped.observation_names
    assert names[:2] == ("height", "orientations[0]") and names[-1] == "velocity[8]"


def test_shimmys_reward_of_nothing_is_an_integer():
    shimmys, ours = gym.make("dm_control/reacher-easy-v0"), make("reacher", "easy")
    for env in (shimmys, ours):
        env.reset(seed=1)
    assert type(shimmys.step(zeros(shimmys))[1]) is int
    assert type(ours.step(zeros(ours))[1]) is float


# ---- what it is for


def test_lqr_is_one_task_and_terminates():
    one, other = SuiteEnv("lqr", "lqr_2_1"), SuiteEnv("lqr", "lqr_2_1")
    assert np.array_equal(one.model.jnt_stiffness, other.model.jnt_stiffness)  # dm_control draws them
    one.reset(seed=0)
    with one._env.physics.reset_context():
        pass  # at rest at the origin
    *_, terminated, truncated, _ = one.step(zeros(one))
    assert terminated and not truncated


def test_without_a_seed_two_environments_begin_differently():
    first, second = (SuiteEnv("cartpole", "balance").reset()[0] for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("domain", "task"),
    [
        ("dog", "stand"),
        ("fish", "swim"),
        ("point_mass", "hard"),
        ("stacker", "stack_2"),
        ("swimmer", "swimmer6"),
    ],
)
def test_a_fresh_environment_continues_a_saved_state(domain, task):
    """Where a reset writes the model, or the task itself (dog)."""
    env, fresh = SuiteEnv(domain, task), SuiteEnv(domain, task)
    rng = np.random.default_rng(0)
    actions = rng.uniform(env.action_space.low, env.action_space.high, (8, *env.action_space.shape))
    env.reset(seed=2)
    for action in actions[:4]:
        here = env.step(action)[0]
    generator = fresh._env.task.random.get_state()[1].copy()
    assert np.array_equal(fresh.restore(env.state()), here)
    assert np.array_equal(fresh._env.task.random.get_state()[1], generator)  # no number was used up
    for action in actions[4:]:
        expected, got = env.step(action), fresh.step(action)
        assert np.array_equal(expected[0], got[0]) and expected[1] == got[1]


def test_goals_are_declared_constant():
    finger = SuiteEnv("finger", "turn_easy")
    assert [finger.observation_names[i] for i in finger.constant_observations] == [
        "target_position[0]",
        "target_position[1]",
    ]
    assert SuiteEnv("finger", "spin").constant_observations == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"domain": "walkr"}, "domain is 'walkr'; did you mean 'walker'"),
        ({"task": "wlak"}, "task is 'wlak'; did you mean 'walk'.* of walker"),
        ({"render_mode": "ansi"}, "render_mode is 'ansi'"),
        ({"variant": "each"}, "variant is 'each'; expected None, an integer or 'redraw'"),
        ({"variant": -1}, "variant is -1"),
        ({"variant": 2**31}, "variant is 2147483648"),
        ({"variant": 0, "scale": 0.9}, "scale is 0.9; expected at least 1"),
        ({"variant": 0, "scale": np.inf}, "scale is inf"),
        ({"variant": 0, "groups": ["weight"]}, "groups has 'weight'; expected a sequence of mass"),
        ({"variant": 0, "groups": "mass"}, "groups has 'mass'; expected a sequence"),
        ({"groups": ["mass"]}, "groups is .'mass'. without a variant to draw; pass variant="),
        ({"scale": 2.0}, "scale is 2.0 without a variant to draw; pass variant="),
        ({"width": 0}, "width is 0; expected an integer of at least 1"),
        ({"domain": "fish", "task": "swim", "variant": 0, "groups": ["length"]}, "fish has no length"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SuiteEnv(**{"domain": "walker", "task": "walk", **arguments})


@pytest.mark.parametrize("variant", [True, 1.0])
def test_a_variant_is_an_integer(variant):
    with pytest.raises(TypeError, match="expected an integer"):
        SuiteEnv("walker", "walk", variant=variant)


def test_bad_actions_seeds_and_states_are_refused():
    env = SuiteEnv("cartpole", "swingup")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(2,\); expected \(1,\)"):
        env.step(np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="expected finite numbers"):
        env.step(np.array([np.nan], np.float32))
    with pytest.raises(ValueError, match="seed is 4294967296; expected 0 to"):
        env.reset(seed=2**32)
    with pytest.raises(ValueError, match="cartpole swingup has states of shape"):
        env.restore(SuiteEnv("walker", "walk").state())
    with pytest.raises(ValueError, match=r"state\[0\] is nan; expected finite numbers: restore a state from"):
        env.restore(np.full_like(env.state(), np.nan))
    with pytest.raises(ValueError, match="state is of variant 4; this environment is variant None"):
        env.restore(SuiteEnv("cartpole", "swingup", variant=4).state())


def test_diverged_physics_name_the_body():
    env = SuiteEnv("cheetah", "run", variant=5)
    env.reset(seed=0)
    env.data.qvel[:] = 1e12
    with pytest.raises(PhysicsDivergedError, match=r"cheetah run, variant 5 at scale 1\.4, diverged"):
        env.step(zeros(env))
    observation, _ = env.reset(seed=0)
    assert np.isfinite(observation).all()


def test_rendering_without_a_mode_says_so():
    env = SuiteEnv("cartpole", "swingup")
    with pytest.warns(UserWarning, match="without a render_mode"):
        assert env.render() is None


def test_frames_follow_the_body_of_each_episode():
    code = (
        "import gymnasium as gym, numpy as np, tdm_envs\n"
        "view = {'render_mode': 'rgb_array', 'width': 160, 'height': 120}\n"
        "env = gym.make('tdm/Suite-v0', domain='walker', task='walk', variant='redraw', scale=2, **view)\n"
        "frames = []\n"
        "for seed in (0, 1):\n"
        "    env.reset(seed=seed)\n"
        "    frames.append(env.render().astype(int))\n"
        "    assert frames[-1].shape == (120, 160, 3) and frames[-1].std() > 10\n"
        "assert abs(frames[0] - frames[1]).max() > 10\n"
        "env.close()\n"
    )
    environment = {**os.environ, "MUJOCO_GL": "egl"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    if "OpenGL" in ran.stderr or "GLContext" in ran.stderr:
        pytest.skip("no EGL on this machine")
    assert ran.returncode == 0, ran.stderr
