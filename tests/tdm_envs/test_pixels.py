"""Environments seen through their pictures."""

import os
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import tdm_envs  # noqa: F401  (registers tdm/Pixels-v0)
from tdm_agents.environments import EnvRef, episode_limit


class Painted(gym.Env):
    """Its picture shows the number of its step; it ends after seven."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = spaces.Box(0, 1, (1,))
    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, render_mode=None, width=100, height=100, shade=0):
        self.render_mode, self.side, self.shade, self.drawn = render_mode, (height, width), shade, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.number = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.number += 1
        return np.zeros(1, np.float32), 0.0, self.number == 7, False, {}

    def render(self):
        self.drawn += 1
        return np.full((*self.side, 3), self.number + self.shade, np.uint8)


class FixedSize(Painted):
    def __init__(self, render_mode=None):
        super().__init__(render_mode)


gym.register("painted/Numbers-v0", Painted, max_episode_steps=50)
gym.register("painted/Fixed-v0", FixedSize, max_episode_steps=50)


def numbers(observation):
    """The number that each frame shows."""
    assert all((frame == frame[0, 0, 0]).all() for frame in observation)
    return observation[:, 0, 0, 0].tolist()


def test_an_observation_is_the_last_pictures():
    env = gym.make("tdm/Pixels-v0", env="painted/Numbers-v0")
    assert env.observation_space == spaces.Box(0, 255, (3, 64, 64, 3), np.uint8)
    assert episode_limit(env) == 50
    seen = [env.reset(seed=0)[0], *(env.step(np.zeros(1))[0] for _ in range(7))]
    assert all(one in env.observation_space for one in seen)
    assert [numbers(one) for one in seen] == [
        [0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5, 6], [5, 6, 7]
    ]  # fmt: skip
    assert numbers(env.reset()[0]) == [0, 0, 0]


def test_where_an_action_is_held_only_what_is_read_is_drawn():
    env = gym.make("tdm/Pixels-v0", env="painted/Numbers-v0", every=3, size=40, frames=2)
    drawn = env.unwrapped.drawn
    seen = [env.reset(seed=0)[0], *(env.step(np.zeros(1))[0] for _ in range(7))]
    assert [numbers(one) for one in seen] == [
        [0, 0], [0, 0], [0, 0], [0, 3], [0, 3], [0, 3], [3, 6], [3, 7]
    ]  # fmt: skip
    assert env.unwrapped.drawn - drawn == 4  # the last one because the episode ends there


def test_pictures_of_a_fixed_size_are_made_smaller():
    pytest.importorskip("cv2", reason="needs opencv: pip install 'tdm-agents[pixels]'")
    env = gym.make("tdm/Pixels-v0", env="painted/Fixed-v0", size=48)
    assert env.reset(seed=0)[0].shape == (3, 48, 48, 3)


def test_an_environment_keeps_its_arguments_in_one_line():
    ref = EnvRef.parse("tdm/Pixels-v0 env=painted/Numbers-v0 every=2 shade=9")
    env = ref.make()
    assert numbers(env.reset(seed=0)[0]) == [9, 9, 9] and EnvRef.of_env(env) == ref
    assert EnvRef.of_env(gym.make("Pendulum-v1", g=9.0, render_mode="rgb_array")) == EnvRef.parse(
        "Pendulum-v1 g=9.0"
    )


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"size": 0}, "size is 0; expected an integer of at least 1"),
        ({"frames": 1.5}, "frames is 1.5"),
        ({"render_mode": "human"}, "render_mode is 'human'; expected 'rgb_array'"),
        ({"env": "os:Anything-v0"}, "expected an id without a module"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        gym.make("tdm/Pixels-v0", **{"env": "painted/Numbers-v0", **settings})


def test_mujocos_environments_draw_in_the_size_that_is_wanted():
    code = (
        "import gymnasium as gym, tdm_envs\n"
        "for env in ('dm_control/cartpole-swingup-v0', 'tdm/Suite-v0', 'tdm/WalkerLine-v0'):\n"
        "    own = {'domain': 'cartpole', 'task': 'swingup'} if 'Suite' in env else {}\n"
        "    own = {'dof': 5, 'body': 3} if 'Walker' in env else own\n"
        "    made = gym.make('tdm/Pixels-v0', env=env, frames=1, **own)\n"
        "    seen = made.reset(seed=0)[0]\n"
        "    assert seen.shape == (1, 64, 64, 3) and seen.std() > 5, env\n"
        "    made.close()\n"
    )
    environment = {**os.environ, "MUJOCO_GL": "egl"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    if "OpenGL" in ran.stderr or "GLContext" in ran.stderr:
        pytest.skip("no EGL on this machine")
    assert ran.returncode == 0, ran.stderr
