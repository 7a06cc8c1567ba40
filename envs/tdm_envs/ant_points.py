"""An ant that runs to points: what a policy learns that then finds its way through a maze.

The ant is Gymnasium's (``Ant-v5``), as in the mazes of gymnasium-robotics. It sees itself in a frame whose
first axis points at the next point, so that one policy runs in every direction, and a controller may lead it
along any path (:class:`tdm_agents.actors.waypoints.WaypointController`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.envs.mujoco.ant_v5 import AntEnv

from tdm_envs.ant_frame import SIZE, Floats, matrix_of, towards

NEAR = 0.45
"""Metres from a point at which it counts as reached, as in gymnasium-robotics."""
FARTHEST = 8.0
"""Greatest distance of the next point, in metres."""
REACHED, UPRIGHT, EFFORT = 5.0, 0.3, 0.05
"""Reward of a point, of a step on the feet, and cost per unit of squared torque."""


class AntPoints(AntEnv):
    """An ant that earns what it comes nearer to a point; where it reaches one, there is another elsewhere.

    Rewards are metres per second towards the point, :data:`REACHED` where it is reached, :data:`UPRIGHT` per
    step, and a cost of torques. An episode ends where the ant lies on its back, or leaves the heights of
    ``Ant-v5``. It begins with any orientation about the vertical.

    Args:
        render_mode: As in Gymnasium.
    """

    def __init__(self, render_mode: str | None = None) -> None:
        self._point = np.zeros(2)
        super().__init__(include_cfrc_ext_in_observation=False, render_mode=render_mode)
        self.observation_space = spaces.Box(-np.inf, np.inf, (SIZE,), np.float64)

    def step(  # type: ignore[override]
        self, action: npt.NDArray[np.float32]
    ) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """A step of 0.05 s."""
        before = self._distance()
        self.do_simulation(action, self.frame_skip)
        after = self._distance()
        reached = after < NEAR
        standing = bool(self.is_healthy) and float(matrix_of(self.data.qpos[3:7])[2, 2]) > 0.0
        reward = (before - after) / self.dt + REACHED * reached + UPRIGHT * standing
        reward -= EFFORT * float(np.square(action).sum())
        if reached:
            self._place()
        if self.render_mode == "human":
            self.render()  # type: ignore[no-untyped-call]
        return self._get_obs(), float(reward), not standing, False, {"reached": reached}

    def reset_model(self) -> Floats:
        """Put the ant somewhere near the middle, and the first point."""
        super().reset_model()  # type: ignore[no-untyped-call]
        angle = self.np_random.uniform(-np.pi, np.pi)
        position, velocity = self.data.qpos.copy(), self.data.qvel.copy()
        position[3:7] = np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2)
        self.set_state(position, velocity)  # type: ignore[no-untyped-call]
        self._place()
        return self._get_obs()

    def _place(self) -> None:
        """Choose the next point."""
        angle, distance = self.np_random.uniform(-np.pi, np.pi), self.np_random.uniform(1.0, FARTHEST)
        self._point = self.data.qpos[:2] + distance * np.array([np.cos(angle), np.sin(angle)])

    def _distance(self) -> float:
        return float(np.hypot(*(self._point - self.data.qpos[:2])))

    def _get_obs(self) -> Floats:
        ant: Floats = super()._get_obs()  # type: ignore[no-untyped-call]
        return towards(ant, self._point - self.data.qpos[:2])
