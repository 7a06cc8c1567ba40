"""An ant that runs to points: what a policy learns that then finds its way through a maze.

The ant is Gymnasium's (``Ant-v5``), as in the mazes of gymnasium-robotics. It sees itself in a frame whose
first axis points at the next point, so that one policy runs in every direction, and a controller may lead it
along any path (:class:`tdm_agents.actors.waypoints.WaypointController`).
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.envs.mujoco.ant_v5 import AntEnv

from tdm_envs.ant_frame import SIZE, Floats, matrix_of, towards
from tdm_envs.suite_state import read_state, write_state
from tdm_envs.walkers.env import refuse_impossible_state

NEAR = 0.45
"""Metres from a point at which it counts as reached, as in gymnasium-robotics."""
FARTHEST = 8.0
"""Greatest distance of the next point, in metres."""
REACHED, UPRIGHT, EFFORT = 5.0, 0.3, 0.05
"""Reward of a point, of a step on the feet, and cost per unit of squared torque."""
NOISE = 0.1
"""Of the positions and velocities in which an episode begins, as in ``Ant-v5``."""


class AntPoints(gym.Env[Floats, npt.NDArray[np.float32]]):
    """An ant that earns what it comes nearer to a point; where it reaches one, there is another elsewhere.

    Rewards are metres per second towards the point, :data:`REACHED` where it is reached, :data:`UPRIGHT` per
    step, and a cost of torques. An episode ends where the ant lies on its back, or leaves the heights of
    ``Ant-v5``. It begins with any orientation about the vertical.

    Args:
        render_mode: As in Gymnasium.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 20}  # noqa: RUF012  (as in Gymnasium)

    def __init__(self, render_mode: str | None = None) -> None:
        self._ant: Any = AntEnv(include_cfrc_ext_in_observation=False, render_mode=render_mode)
        self.render_mode = render_mode
        self.action_space = self._ant.action_space
        self.observation_space = spaces.Box(-np.inf, np.inf, (SIZE,), np.float64)
        self._course, self._reached = 0, 0  # which points there are, and how many were reached
        self._point = np.zeros(2)

    @property
    def model(self) -> mujoco.MjModel:
        """The ant and the floor."""
        return self._ant.model

    @property
    def data(self) -> mujoco.MjData:
        """Their state."""
        return self._ant.data

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Put the ant near the middle, and the first point."""
        super().reset(seed=seed, options=options)
        draw = self.np_random
        position = self._ant.init_qpos + draw.uniform(-NOISE, NOISE, self.model.nq)
        velocity = self._ant.init_qvel + NOISE * draw.standard_normal(self.model.nv)
        angle = draw.uniform(-np.pi, np.pi)
        position[3:7] = np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2)
        mujoco.mj_resetData(self.model, self.data)
        self._ant.set_state(position, velocity)
        self._course, self._reached = int(draw.integers(2**52)), 0
        self._place()
        return self._observation(), {}

    def step(self, action: npt.NDArray[np.float32]) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """A step of 0.05 s."""
        before = self._distance()
        self._ant.do_simulation(action, self._ant.frame_skip)
        after = self._distance()
        reached = after < NEAR
        standing = bool(self._ant.is_healthy) and float(matrix_of(self.data.qpos[3:7])[2, 2]) > 0.0
        reward = (before - after) / self._ant.dt + REACHED * reached + UPRIGHT * standing
        reward -= EFFORT * float(np.square(action).sum())
        if reached:
            self._reached += 1
            self._place()
        if self.render_mode == "human":
            self.render()
        return self._observation(), float(reward), not standing, False, {"reached": reached}

    def state(self) -> Floats:
        """Everything that the episode's future depends on; :meth:`restore` continues to the last bit."""
        numbers = [self._course, self._reached, *self._point]
        return np.concatenate((numbers, read_state(self.model, self.data, ())))

    def restore(self, state: Floats) -> Floats:
        """Go back to a :meth:`state`, and return its observation.

        Raises:
            ValueError: If it is the state of something else, or not finite.
        """
        refuse_impossible_state(state, len(self.state()), "an ant and its points")
        self._course, self._reached, self._point = int(state[0]), int(state[1]), state[2:4].copy()
        write_state(self.model, self.data, (), state[4:])
        return self._observation()

    def render(self) -> Any:
        """A frame ``[height, width, 3]``, or the window for ``"human"``."""
        return self._ant.render()

    def close(self) -> None:
        """Free the renderer."""
        self._ant.close()

    def __getstate__(self) -> dict[str, Any]:
        """What a copy is made of."""
        return {"render_mode": self.render_mode, "state": self.state(), "spec": self.spec,
                "random": (self._np_random, self._np_random_seed)}  # fmt: skip

    def __setstate__(self, kept: dict[str, Any]) -> None:
        """Become a copy."""
        AntPoints.__init__(self, kept["render_mode"])
        self.spec, (self._np_random, self._np_random_seed) = kept["spec"], kept["random"]
        self.restore(kept["state"])

    def _place(self) -> None:
        """Choose the next point."""
        draw = np.random.default_rng((self._course, self._reached))
        angle, distance = draw.uniform(-np.pi, np.pi), draw.uniform(1.0, FARTHEST)
        self._point = self.data.qpos[:2] + distance * np.array([np.cos(angle), np.sin(angle)])

    def _distance(self) -> float:
        return float(np.hypot(*(self._point - self.data.qpos[:2])))

    def _observation(self) -> Floats:
        ant = np.concatenate((self.data.qpos[2:], self.data.qvel))
        return towards(ant, self._point - self.data.qpos[:2])
