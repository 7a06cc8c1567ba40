"""Copies of Gymnasium's MuJoCo environments, stepped by their own Python from any physics state.

Observations, rewards and ends of such an environment come from its own code, often from quantities that
lag the physics by one step (``site_xpos``, ``cfrc_ext``). So the code itself is run, on its own data.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import numpy.typing as npt
from gymnasium.envs.mujoco import MujocoEnv

from tdm_agents.env_checks import single_number
from tdm_agents.spaces import ObservationCodec

Array = npt.NDArray[np.float64]

_PHYSICS = mujoco.mjtState.mjSTATE_FULLPHYSICS.value


@dataclass(frozen=True, slots=True)
class Played:
    """Outcome of ``H`` decisions of ``r`` environment steps each.

    Attributes:
        observation: ``[H, n]`` float32, after each decision; 0 after an end.
        reward: ``[H * r]``, the reward of every environment step; 0 after an end.
        alive: ``[H]``, False from the decision in which the episode ended.
        physics: ``[nstate]``, MuJoCo's FULLPHYSICS state at the end.
        warmstart: ``[nv]``, where the constraint solver starts next.
    """

    observation: npt.NDArray[np.float32]
    reward: Array
    alive: npt.NDArray[np.bool_]
    physics: Array
    warmstart: Array


def can_be_copied(env: gym.Env[Any, Any]) -> bool:
    """Whether a :class:`SteppedCopy` can be made of an unwrapped environment."""
    return isinstance(env, MujocoEnv)


class SteppedCopy:
    """An environment that shares the live one's model and settings, but not its data.

    It is exact where all that changes from step to step is in MuJoCo's physics state. Ant and Humanoid also
    read where their body was one physics step earlier: the first reward of a copy is off by that motion.

    Args:
        env: The unwrapped environment; it is never stepped or written to.
    """

    def __init__(self, env: MujocoEnv) -> None:
        self._codec = ObservationCodec(env.observation_space)
        self._env = copy.copy(env)
        self._env.data = mujoco.MjData(env.model)
        self._env.render_mode = None  # "human" would draw every imagined step

    def play(self, physics: Array, warmstart: Array, actions: npt.NDArray[Any], repeat: int) -> Played:
        """Execute decisions until the episode ends.

        Args:
            physics: ``[nstate]``, the FULLPHYSICS state to begin with.
            warmstart: ``[nv]`` of the constraint solver; without it results differ in the last bits.
            actions: ``[H, m]``, one per decision, as the environment takes them.
            repeat: Environment steps per decision.
        """
        env, model, data = self._env, self._env.model, self._env.data
        mujoco.mj_setState(model, data, physics, _PHYSICS)
        mujoco.mj_forward(model, data)  # what the environment reads before it steps
        data.qacc_warmstart[:] = warmstart
        observation = np.zeros((len(actions), self._codec.dim), np.float32)
        reward = np.zeros(len(actions) * repeat)
        alive = np.zeros(len(actions), bool)
        ended = False
        for h, action in enumerate(actions):
            for step in range(h * repeat, (h + 1) * repeat):
                seen, earned, ended, _, _ = env.step(action)
                reward[step] = single_number(earned)
                if ended:
                    break
            observation[h] = self._codec.flatten(seen)
            if ended:
                break
            alive[h] = True
        after = np.empty_like(physics)
        mujoco.mj_getState(model, data, after, _PHYSICS)
        return Played(observation, reward, alive, after, np.array(data.qacc_warmstart))
