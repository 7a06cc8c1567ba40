"""Environments that are seen as pictures and need no renderer: a dot to be moved to the middle.

``--env-id dots:dots/Dot-v0`` registers them.
"""

import gymnasium as gym
import numpy as np
from gymnasium import spaces

SIDE = 40


class Dot(gym.Env):
    """A dot on a line, moved by at most a fifth of it; pays by how near it is to the middle.

    ``beside`` adds its place as a vector, under another key of a ``Dict``.
    """

    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, beside=False, axes="hw"):
        self.beside, self.axes, self.place = beside, axes, 0.0
        shape = {"hw": (SIDE, SIDE), "hwc": (SIDE, SIDE, 3), "chw": (3, SIDE, SIDE)}[axes]
        self.observation_space = picture = spaces.Box(0, 255, shape, np.uint8)
        if beside:
            self.observation_space = spaces.Dict({"camera": picture, "place": spaces.Box(-1, 1, (1,))})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = float(self.np_random.uniform(-1, 1))
        return self.seen(), {}

    def step(self, action):
        self.place = float(np.clip(self.place + 0.4 * float(action[0]), -1, 1))
        return self.seen(), 1 - abs(self.place), False, False, {}

    def seen(self):
        flat = np.zeros((SIDE, SIDE), np.uint8)
        column = round((self.place + 1) / 2 * (SIDE - 8))
        flat[16:24, column : column + 8] = 255
        picture = {
            "hw": flat,
            "hwc": np.repeat(flat[..., None], 3, axis=-1),
            "chw": np.repeat(flat[None], 3, axis=0),
        }[self.axes]
        return {"camera": picture, "place": np.full(1, self.place, np.float32)} if self.beside else picture


gym.register("dots/Dot-v0", Dot, max_episode_steps=20, disable_env_checker=True)
