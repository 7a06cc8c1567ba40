"""An environment of one's own, for ``own_environment.py``: a car that is to stop at a mark, in the wind."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

Vector = npt.NDArray[np.float32]


class Drive(gym.Env[Any, Vector]):
    """A car on a straight road; the brake is stronger than the engine.

    Args:
        wind: Acceleration by the wind, in m/s^2.
    """

    DT = 0.1  # seconds per step
    MARK, EDGE = 5.0, 10.0  # metres

    def __init__(self, wind: float = 0.0) -> None:
        self.observation_space = spaces.Dict(
            {
                "car": spaces.Box(-np.inf, np.inf, (2,), np.float32),  # position (m), velocity (m/s)
                "distance": spaces.Box(-np.inf, np.inf, (1,), np.float32),  # to the mark (m)
            }
        )
        # from brake to engine, in m/s^2
        self.action_space = spaces.Box(np.array([-4.0], np.float32), np.array([2.0], np.float32))
        self._wind = wind
        self._position = self._velocity = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Vector], dict[str, Any]]:
        """Begin near the start of the road."""
        super().reset(seed=seed)
        self._position, self._velocity = self.np_random.uniform(-1.0, 1.0), 0.0
        return self._observation(), {}

    def step(self, action: Vector) -> tuple[dict[str, Vector], float, bool, bool, dict[str, Any]]:
        """Accelerate; an episode terminates where the car leaves the road."""
        self._velocity += self.DT * (float(action[0]) + self._wind - 0.2 * self._velocity)
        self._position += self.DT * self._velocity
        near = np.exp(-abs(self._position - self.MARK))
        left = abs(self._position) > self.EDGE
        return self._observation(), float(near), left, False, {}

    def _observation(self) -> dict[str, Vector]:
        return {
            "car": np.array([self._position, self._velocity], np.float32),
            "distance": np.array([self.MARK - self._position], np.float32),
        }


gym.register("Drive-v0", "drive:Drive", max_episode_steps=100)
