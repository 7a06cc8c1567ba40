"""Checks of what environments hand over: that several are several, and that rewards are numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from tdm_agents.errors import WrongValueError

_LARGEST = float(np.finfo(np.float32).max)


def refuse_shared(envs: Sequence[gym.Env[Any, Any]]) -> None:
    """Refuse environments that are one and the same, in whatever wrappers: their episodes would intertwine.

    Args:
        envs: Environments that live side by side.

    Raises:
        ValueError: Naming two that share something.
    """
    owner: dict[int, int] = {}
    for index, env in enumerate(envs):
        for layer in _layers(env):
            if (first := owner.setdefault(id(layer), index)) != index:
                raise WrongValueError(
                    f"environments {first} and {index} are the same object, {layer}, so their episodes would "
                    "intertwine; expected a function that makes a new environment at every call, for example "
                    "lambda: gymnasium.make(...)"
                )


def _layers(env: gym.Env[Any, Any]) -> Iterator[object]:
    """An environment, what its wrappers hold, and what a compatibility layer such as Shimmy's holds."""
    yield env
    while isinstance(env, gym.Wrapper):
        env = env.env
        yield env
    for name in ("_env", "gym_env"):
        if (inner := vars(env).get(name)) is not None:
            yield inner


def read_reward(value: Any, name: str = "reward") -> float:
    """The reward of one environment step as a number.

    Args:
        value: A number, or an array or tensor of one element, whatever its axes.
        name: What an error calls it.

    Raises:
        ValueError: If it is no single number, or one that models cannot read: NaN, infinite, or beyond the
            range of float32.
    """
    reward = single_number(value, name)
    if not abs(reward) <= _LARGEST:  # NaN is not either
        raise WrongValueError(_not_finite(name, reward))
    return reward


def single_number(value: Any, name: str = "reward") -> float:
    """A number, or an array of one element, as a float; NaN and inf pass.

    Raises:
        ValueError: If it is something else.
    """
    array = _numbers(value, name)
    if array.size != 1:
        raise WrongValueError(
            f"{name} has shape {array.shape}; expected one number per environment step: add up its parts, "
            "for example with gymnasium.wrappers.TransformReward"
        )
    return float(array.reshape(()))


def read_rewards(
    value: Any, batch: int, *, unknown: bool = False, where: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.float64]:
    """The rewards of one step of several environments.

    Args:
        value: ``[B]``, or ``[B, 1]``; where ``B`` is 1, anything of one element. Copied.
        batch: ``B``.
        unknown: Whether NaN in an array says that a reward is unknown. By itself, as a number, NaN is no way
            to say so (None is), but an environment that has gone wrong.
        where: ``[B]``, False for rows that nobody reads, which may be anything, NaN where not finite; None =
            all are read.

    Returns:
        ``[B]``.

    Raises:
        ValueError: If the shape is another, or a reward is not finite in float32.
    """
    array = _numbers(value, "reward")
    if array.shape not in ((batch,), (batch, 1)) and not (batch == 1 and array.size == 1):
        raise WrongValueError(
            f"reward has shape {array.shape} beside observations of {batch} environments; expected "
            f"({batch},), one entry per environment"
        )
    rewards = np.array(array, np.float64).reshape(batch)
    bad = ~(np.abs(rewards) <= _LARGEST)
    if where is not None:
        rewards[bad & ~where] = np.nan
        bad &= where
    if unknown and array.ndim:
        bad &= ~np.isnan(rewards)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        of = f" in environment {row}" if batch > 1 else ""
        remedy = ", or None (NaN in an array) where unknown" if unknown else ""
        raise WrongValueError(_not_finite(f"reward{of}", float(rewards[row])) + remedy)
    return rewards


def read_stored_rewards(value: Any) -> npt.NDArray[np.float32]:
    """The rewards of an episode's ``L`` steps, stored as ``[L]`` or ``[L, 1]``, as ``[L]`` float32.

    NaN and inf pass; a number beyond float32 becomes inf.

    Raises:
        ValueError: If the shape is another or they are no numbers.
    """
    array = _numbers(value, "rewards")
    if array.ndim != 1 and array.shape[1:] != (1,):
        raise WrongValueError(f"rewards have shape {array.shape}; expected one number per step")
    with np.errstate(over="ignore"):
        return array.reshape(len(array)).astype(np.float32)


def _numbers(value: Any, name: str) -> npt.NDArray[Any]:
    try:
        array = np.asarray(value)
        if array.dtype.kind == "O":
            array = array.astype(np.float64)
    except (TypeError, ValueError, RuntimeError):
        array = np.empty(0, "U1")
    if array.dtype.kind not in "biuf":
        text = repr(value)
        shown = text if len(text) <= 80 else f"{text[:77]}..."
        raise WrongValueError(f"{name} is {shown}; expected a number")
    return array


def _not_finite(name: str, reward: float) -> str:
    return f"{name} is {reward}; expected a finite number, within float32's range of {_LARGEST:.1e}"
