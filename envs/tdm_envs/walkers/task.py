"""Rewards of walkers on flat observations, to score the predictions of a model. This needs torch."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from tdm_envs.mistakes import EnvsTypeError, EnvsValueError
from tdm_envs.walkers.env import TARGET_SPEED, WalkerEnv
from tdm_envs.walkers.observation import ROOT_SCALARS, Array, observe


class WalkerTask:
    """Observations and rewards of one body for any number of states at once.

    It serves in ``SimulatorModel(env, fast=WalkerTask(env))`` and
    ``RewardFunction(model, WalkerTask(env).reward)``. It is exact: the observation determines the velocity of
    the centre of mass.

    Args:
        env: A walker, with or without wrappers. Only its model is read.
        guide: For planners: the slope of :meth:`reward` where the environment's own is flat at 0, in [0, 1),
            so that a candidate that falls back slowly is better than one that falls back fast. 0 is the
            environment's own reward.

    Raises:
        TypeError: If it is not a walker.
        ValueError: If ``guide`` is out of its range.
    """

    def __init__(self, env: gym.Env[Any, Any], guide: float = 0.0) -> None:
        walker = env.unwrapped
        if not isinstance(walker, WalkerEnv):
            raise EnvsTypeError(f"{env} is not a procedural walker; expected one of tdm/Walker...-v0")
        if not 0.0 <= guide < 1.0:
            raise EnvsValueError(f"guide is {guide}; expected 0 (the environment's own reward) <= guide < 1")
        self._guide = guide
        model = walker.model
        self._dof = int(model.nv) - 6
        # body 0 is the world, body 1 the root; every other turns on one hinge, and frames are aligned at rest
        parents = np.asarray(model.body_parentid)
        self._parents = [int(parent) - 1 for parent in parents[2:]]
        self._axes = [int(axis) for axis in np.argmax(np.asarray(model.jnt_axis)[1:], axis=1)]
        self._levers = torch.from_numpy(_levers(model, parents))

    def observe(self, qpos: Array, qvel: Array) -> Array:
        """Observations from positions and velocities; see :func:`tdm_envs.walkers.observation.observe`."""
        return observe(qpos, qvel)

    def reward(self, observation: Tensor, action: Tensor, next_observation: Tensor) -> Tensor:
        """Reward of one environment step, ``max(r, guide r)`` with ``r = 1 - |v - 1|``.

        Args:
            observation: Not used.
            action: Not used.
            next_observation: ``[N, 13 + 2 dof]``.

        Returns:
            Rewards ``[N]``; NaN where the observation is.
        """
        reward = 1.0 - (self.velocity(next_observation) - TARGET_SPEED).abs()
        return torch.maximum(reward, self._guide * reward)

    def velocity(self, observation: Tensor) -> Tensor:
        """The velocity of the whole body's centre of mass along world +x, in m/s.

        ``v = v_root + sum_b omega_b x R_b l_b`` in the root's frame, with limb ``b``'s orientation ``R_b``
        and angular velocity ``omega_b``. Its lever ``l_b`` is the mass-weighted position, from the hinge that
        carries ``b``, of ``b`` itself and of the hinges on it, each with the mass of all that it carries.

        Args:
            observation: ``[N, 13 + 2 dof]``.
        """
        heading = observation[:, 1:4]  # world x in the root's frame
        angles = observation[:, ROOT_SCALARS : ROOT_SCALARS + self._dof]
        rates = observation[:, ROOT_SCALARS + self._dof :]
        cosine, sine = angles.cos(), angles.sin()
        levers = self._levers.to(observation)
        root = torch.eye(3).to(observation).expand(len(observation), 3, 3)
        # limb frames by their three axes, [N, 3 axes, 3 components]
        frames, omegas = [root], [observation[:, 10:13]]
        total = observation[:, 7:10] + torch.linalg.cross(omegas[0], levers[0].expand_as(omegas[0]))
        for hinge, (parent, axis) in enumerate(zip(self._parents, self._axes, strict=True)):
            first, second = (axis + 1) % 3, (axis + 2) % 3
            c, s = cosine[:, hinge, None], sine[:, hinge, None]
            old = frames[parent]
            turned: list[Tensor] = [old[:, axis]] * 3
            turned[first] = c * old[:, first] + s * old[:, second]
            turned[second] = c * old[:, second] - s * old[:, first]
            frame = torch.stack(turned, dim=1)
            omega = omegas[parent] + old[:, axis] * rates[:, hinge, None]
            frames.append(frame)
            omegas.append(omega)
            total = total + torch.linalg.cross(omega, levers[hinge + 1] @ frame)
        forward: Tensor = (heading * total).sum(-1)
        return forward


def _levers(model: Any, parents: Any) -> Array:
    """``l_b`` of :meth:`WalkerTask.velocity` for every limb, ``[dof + 1, 3]``, in metres."""
    carried = np.asarray(model.body_subtreemass)
    moment = np.asarray(model.body_mass)[:, None] * np.asarray(model.body_ipos)
    for limb in range(2, model.nbody):
        moment[parents[limb]] += carried[limb] * np.asarray(model.body_pos)[limb]
    levers: Array = moment[1:] / carried[1]
    return levers
