"""An environment as a user writes one: a Dict observation, asymmetric actions, terminations."""

from typing import ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

LOW, HIGH = np.float32([-1.0, 0.0]), np.float32([1.0, 4.0])  # steering, gas
LABELS = ("car[0]", "car[1]", "car[2]", "gear=0", "gear=1", "heading[0]", "heading[1]")


class MyDrive(gym.Env):
    """A car on a road along x, 4 m wide; leaving it ends the episode."""

    metadata: ClassVar = {"render_modes": [], "render_fps": 10}

    def __init__(self, wind=0.1):
        self.wind = wind
        self.observation_space = spaces.Dict(
            {
                "car": spaces.Box(-np.inf, np.inf, (3,)),  # x, y, speed
                "heading": spaces.Box(-1, 1, (2,)),  # cosine, sine
                "gear": spaces.Discrete(2),
            }
        )
        self.action_space = spaces.Box(LOW, HIGH)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.y, self.speed = 0.0, self.np_random.uniform(-0.5, 0.5), 1.0
        self.angle = self.np_random.uniform(-0.2, 0.2)
        return self._observation(), {}

    def step(self, action):
        steering, gas = map(float, action)
        self.angle += 0.1 * steering * self.speed
        self.speed += 0.1 * (gas - 0.5 * self.speed)
        self.x += 0.1 * self.speed * np.cos(self.angle)
        self.y += 0.1 * (self.speed * np.sin(self.angle) + self.wind)
        off = abs(self.y) > 2
        reward = 0.1 * self.speed * np.cos(self.angle) - 0.1 * self.y**2 - (5 if off else 0)
        return self._observation(), reward, off, False, {}

    def _observation(self):
        return {
            "car": np.float32([self.x, self.y, self.speed]),
            "heading": np.float32([np.cos(self.angle), np.sin(self.angle)]),
            "gear": int(self.speed > 2),
        }
