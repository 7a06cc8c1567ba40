"""An environment with goals, as gymnasium_robotics has them: a point on a table that is to reach a place."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces

PLACE = spaces.Box(-2, 2, (2,))


class Reach(gym.Env):
    """The action moves the point by at most 0.2 along each axis; the reward is minus the distance left."""

    observation_space = spaces.Dict(
        {"observation": spaces.Box(-np.inf, np.inf, (2,)), "achieved_goal": PLACE, "desired_goal": PLACE}
    )
    action_space = spaces.Box(-0.2, 0.2, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.point = np.zeros(2)
        self.goal = self.np_random.uniform(-1, 1, 2)
        return self._observation(), {}

    def step(self, action):
        self.moved = np.clip(action, -0.2, 0.2)
        self.point = np.clip(self.point + self.moved, -2, 2)
        reward = self.compute_reward(self.point, self.goal, {})
        return self._observation(), reward, False, False, {}

    def compute_reward(self, achieved_goal, desired_goal, info):
        return -np.linalg.norm(achieved_goal - desired_goal, axis=-1)

    def _observation(self):
        place = np.float32(self.point)
        return {"observation": place, "achieved_goal": place, "desired_goal": np.float32(self.goal)}


def reached(observation, action, next_observation):
    """The environment's own reward, on imagined observations."""
    return -(next_observation["achieved_goal"] - next_observation["desired_goal"]).norm(dim=-1)


def away(observation, action, next_observation):
    return -reached(observation, action, next_observation)
