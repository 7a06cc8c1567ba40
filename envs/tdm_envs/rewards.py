"""Rewards of dm_control suite tasks on flat observations, to score the predictions of a model.

Reimplemented in PyTorch from dm_control (Apache-2.0, The dm_control Authors): ``dm_control/utils/rewards.py``
and ``get_reward`` in ``dm_control/suite/{cartpole,walker,humanoid}.py``. Each is ``fn(observation[N, n],
action[N, m], next_observation[N, n]) -> reward[N]`` of one environment step. Observations are flat in the
order of Gymnasium's ``flatten`` (keys sorted); actions are in physical units. All four are exact functions of
the flat observation after the step and of the action; the observation before it is not needed. Rewards are in
[0, 1], per environment step. NaN gives NaN. All but walker-walk's hold for any physical constants.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor

from tdm_envs.mistakes import EnvsLookupError, EnvsValueError
from tdm_envs.suite_tasks import task_id

Reward = Callable[[Tensor, Tensor, Tensor], Tensor]


def tolerance(
    x: Tensor,
    lower: float = 0.0,
    upper: float = 0.0,
    *,
    margin: float,
    sigmoid: Literal["gaussian", "linear", "quadratic"] = "gaussian",
    value_at_margin: float = 0.1,
) -> Tensor:
    """1 inside ``[lower, upper]``, falling to ``value_at_margin`` at a distance of ``margin``.

    Args:
        x: Values of any shape.
        lower: Lower bound, inclusive.
        upper: Upper bound, inclusive; may be infinite.
        margin: Positive, in the units of ``x``.
        sigmoid: Shape of the fall.
        value_at_margin: Value in (0, 1) for ``gaussian``, in [0, 1) otherwise.

    Returns:
        Values in [0, 1], in the shape of ``x``; NaN where ``x`` is.
    """
    # the distance to the interval is NaN where x is; where() would hide that
    distance = (torch.clamp(lower - x, min=0.0) + torch.clamp(x - upper, min=0.0)) / margin
    if sigmoid == "gaussian":
        return torch.exp(math.log(value_at_margin) * distance.square())
    if sigmoid == "linear":
        return torch.clamp(1.0 - (1.0 - value_at_margin) * distance, min=0.0)
    return torch.clamp(1.0 - (1.0 - value_at_margin) * distance.square(), min=0.0)


def cartpole_swingup(observation: Tensor, action: Tensor, next_observation: Tensor) -> Tensor:
    """Reward for an upright pole, a centred cart, little control and little velocity.

    It is ``Balance._get_reward`` of ``suite/cartpole.py`` with ``sparse=False``. Observation ``[5]``: cart
    position (m), cosine and sine of the pole's angle, cart velocity (m/s), pole velocity (rad/s).
    """
    position, cosine, pole_velocity = next_observation[:, 0], next_observation[:, 1], next_observation[:, 4]
    upright = (cosine + 1) / 2
    centered = (1 + tolerance(position, margin=2)) / 2
    small_control = (4 + _small_control(action)) / 5
    small_velocity = (1 + tolerance(pole_velocity, margin=5)) / 2
    return upright * small_control * small_velocity * centered


def walker_stand(observation: Tensor, action: Tensor, next_observation: Tensor) -> Tensor:
    """Reward for a high, upright torso: ``PlanarWalker.get_reward`` (``suite/walker.py``), ``move_speed=0``.

    Observation ``[24]``: height (m), (cosine, sine) of the orientation of 7 bodies with the torso first, 9
    velocities (m/s, rad/s).
    """
    height, torso_cosine = next_observation[:, 0], next_observation[:, 1]
    standing = tolerance(height, _WALKER_HEIGHT, math.inf, margin=_WALKER_HEIGHT / 2)
    upright = (1 + torso_cosine) / 2
    return (3 * standing + upright) / 4


def walker_walk(observation: Tensor, action: Tensor, next_observation: Tensor) -> Tensor:
    """Reward for standing, and moving at 1 m/s: ``PlanarWalker.get_reward`` with ``move_speed=1``.

    The centre of mass's velocity is not observed, but follows from the observation by the masses and lengths
    of dm_control's walker: see :func:`walker_velocity`. So this is wrong for variants of its body, for which
    :func:`reward_function_of` refuses it.
    """
    speed = walker_velocity(next_observation)
    move = tolerance(speed, 1.0, math.inf, margin=0.5, sigmoid="linear", value_at_margin=0.5)
    return walker_stand(observation, action, next_observation) * (5 * move + 1) / 6


def walker_velocity(observation: Tensor) -> Tensor:
    """Forward velocity of the walker's centre of mass (m/s), from ``[N, 24]`` by planar kinematics.

    ``v = v_root + sum_b omega_b (z_b cos_b - x_b sin_b)`` with body ``b``'s absolute angular velocity, and as
    its lever arm ``(x_b, z_b)`` the mass-weighted position, from the joint that carries ``b``, of ``b`` and
    of the joints of its children (which carry their subtrees' mass), over the total mass. Lengths and
    densities are those of ``suite/walker.xml``.
    """
    orientation = observation[:, 1:15].reshape(-1, 7, 2)
    cosine, sine = orientation[..., 0], orientation[..., 1]  # [N, 7]
    velocity = observation[:, 15:]  # rootz, rootx, rooty, then hip, knee and ankle of each leg
    torso = velocity[:, 2:3]
    # leg hinges turn about -y, the torso's about +y
    legs = torso[:, :, None] - velocity[:, 3:].reshape(-1, 2, 3).cumsum(-1)  # [N, 2, 3]
    omega = torch.cat([torso, legs.flatten(1)], dim=1)
    z = observation.new_tensor([_TORSO_Z, _THIGH_Z, _LEG_Z, 0.0, _THIGH_Z, _LEG_Z, 0.0])
    x = observation.new_tensor([0.0, 0.0, 0.0, _FOOT_X, 0.0, 0.0, _FOOT_X])
    forward: Tensor = velocity[:, 1] + (omega * (z * cosine - x * sine)).sum(-1)
    return forward


def humanoid_stand(observation: Tensor, action: Tensor, next_observation: Tensor) -> Tensor:
    """Reward for a high head, an upright torso, little control, no drift: ``Humanoid.get_reward``, speed 0.

    Observation ``[67]``: centre of mass velocity (3), extremities (12), head height, joint angles (21),
    vertical orientation of the torso (3), velocities (27).
    """
    drift, head, upright_z = next_observation[:, 0:2], next_observation[:, 15], next_observation[:, 39]
    standing = tolerance(head, 1.4, math.inf, margin=1.4 / 4)
    upright = tolerance(upright_z, 0.9, math.inf, margin=1.9, sigmoid="linear", value_at_margin=0.0)
    small_control = (4 + _small_control(action)) / 5
    dont_move = tolerance(drift, margin=2).mean(-1)
    return small_control * standing * upright * dont_move


def known_rewards() -> tuple[str, ...]:
    """The Gymnasium ids that :func:`reward_function` knows."""
    return tuple(sorted(_REWARDS))


def reward_function(env_id: str) -> Reward:
    """The reward function of a Gymnasium id, for example ``"dm_control/walker-stand-v0"``.

    Raises:
        LookupError: If there is none; the message lists those that exist.
    """
    return _reward(env_id).function


def reward_function_of(env: gym.Env[Any, Any]) -> Reward:
    """The reward function of a live environment, variants of the suite's bodies included.

    Args:
        env: An environment of Shimmy's suite or ``tdm/Suite-v0``, with or without wrappers.

    Raises:
        LookupError: If there is none.
        ValueError: As in :func:`refuse_variant`.
    """
    name = task_id(env) or str(env)
    function = reward_function(name)
    refuse_variant(name, env)
    return function


def refuse_variant(name: str, env: gym.Env[Any, Any]) -> None:
    """Refuse a reward function that uses dm_control's own masses or lengths for a body that has others.

    Args:
        name: Name of the function, a Gymnasium id.
        env: The environment to plan for, with or without wrappers.

    Raises:
        LookupError: If there is no such function.
        ValueError: If it is refused; the message says what to plan for instead.
    """
    variant = env.spec.kwargs.get("variant") if env.spec is not None else None
    if _reward(name).own_constants and variant is not None:
        raise EnvsValueError(
            f"the reward function {name!r} reads masses and lengths of dm_control's own body, and {env} is a "
            f"variant ({variant!r}) of it: leave the reward to the simulator's task or to what the model "
            "predicts"
        )


def reward_sizes(env_id: str) -> tuple[int, int]:
    """The numbers of observation and action scalars that the reward function of a Gymnasium id reads.

    Raises:
        LookupError: If there is none; the message lists those that exist.
    """
    reward = _reward(env_id)
    return reward.observation_dim, reward.action_dim


class _Known(NamedTuple):
    function: Reward
    observation_dim: int
    action_dim: int
    own_constants: bool = False  # whether it is wrong for other masses or lengths of the body


def _reward(env_id: str) -> _Known:
    if env_id not in _REWARDS:
        # the namespace, which all ids share, would make any id look near
        bare = {known.rpartition("/")[2]: known for known in _REWARDS}
        near = difflib.get_close_matches(env_id.rpartition("/")[2], bare, n=1, cutoff=0.8)
        hint = f"did you mean {bare[near[0]]!r}? " if near else ""
        raise EnvsLookupError(f"no reward function for {env_id!r}; {hint}known: {', '.join(known_rewards())}")
    return _REWARDS[env_id]


def _small_control(action: Tensor) -> Tensor:
    return tolerance(action, margin=1, sigmoid="quadratic", value_at_margin=0.0).mean(-1)


def _capsule(radius: float, half_length: float) -> float:
    """Mass (kg) at MuJoCo's default density of 1000 kg/m^3."""
    return 1000.0 * math.pi * radius**2 * (4.0 / 3.0 * radius + 2.0 * half_length)


_WALKER_HEIGHT = 1.2  # metres
_TORSO, _THIGH, _LEG, _FOOT = (
    _capsule(0.07, 0.3),
    _capsule(0.05, 0.225),
    _capsule(0.04, 0.25),
    _capsule(0.05, 0.1),
)
_TOTAL = _TORSO + 2 * (_THIGH + _LEG + _FOOT)
_TORSO_Z = -0.3 * 2 * (_THIGH + _LEG + _FOOT) / _TOTAL
_THIGH_Z = (-0.225 * _THIGH - 0.45 * (_LEG + _FOOT)) / _TOTAL
_LEG_Z = (-0.25 * _LEG - 0.5 * _FOOT) / _TOTAL
_FOOT_X = 0.06 * _FOOT / _TOTAL

_REWARDS: dict[str, _Known] = {
    "dm_control/cartpole-swingup-v0": _Known(cartpole_swingup, 5, 1),
    "dm_control/humanoid-stand-v0": _Known(humanoid_stand, 67, 21),
    "dm_control/walker-stand-v0": _Known(walker_stand, 24, 6),
    "dm_control/walker-walk-v0": _Known(walker_walk, 24, 6, own_constants=True),
}
