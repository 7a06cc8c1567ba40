"""Any environment seen through its own pictures, with Gymnasium's wrappers."""

from __future__ import annotations

import inspect
from importlib.metadata import entry_points
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import load_env_creator
from gymnasium.wrappers import (
    AddRenderObservation,
    FrameStackObservation,
    ResizeObservation,
    TransformObservation,
)

from tdm_envs.mistakes import EnvsValueError


class HeldPictures(gym.Wrapper[Any, Any, Any, Any]):
    """Pictures of every ``every``-th environment step of an episode and of its last; the same in between.

    Args:
        env: The environment, which can be drawn.
        every: Environment steps per picture.
    """

    def __init__(self, env: gym.Env[Any, Any], every: int) -> None:
        super().__init__(env)
        self._every = every
        self._step, self._over = 0, False
        self._picture: npt.NDArray[np.uint8] | None = None

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self._step, self._over, self._picture = 0, False, None
        return super().reset(**arguments)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One environment step."""
        result = super().step(action)
        self._step += 1
        self._over = bool(result[2] or result[3])
        if self._step % self._every == 0 or self._over:
            self._picture = None
        return result

    def render(self) -> Any:
        """The picture of the last step that is drawn."""
        if self._picture is None:
            self._picture = np.asarray(super().render(), np.uint8)
        return self._picture


def pixels(
    env: str,
    *,
    size: int = 64,
    frames: int = 3,
    every: int = 1,
    render_mode: str | None = None,
    **kwargs: Any,
) -> gym.Env[Any, Any]:
    """An environment that is observed as stacked pictures, ``[frames, size, size, 3]`` bytes.

    Environments that draw in any size (MuJoCo's, dm_control's and ours) are asked for ``size``; pictures of
    others are made smaller, which needs opencv.

    Args:
        env: Its id; what registers it has been imported, or is a package that says so by an entry point.
        size: Height and width of a picture.
        frames: Pictures per observation, the last of which is the present.
        every: Environment steps from one picture to the next: where an action is held for several steps, as
            many. The observation changes with them.
        render_mode: None or ``"rgb_array"``: it is drawn in any case.
        kwargs: Keyword arguments of the environment.

    Raises:
        ValueError: If a setting makes no sense, or the environment cannot be drawn.
    """
    for name, value in (("size", size), ("frames", frames), ("every", every)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise EnvsValueError(f"{name} is {value!r}; expected an integer of at least 1")
    if render_mode not in (None, "rgb_array"):
        raise EnvsValueError(
            f"render_mode is {render_mode!r}; expected 'rgb_array': the pictures are the observation"
        )
    _import_provider(env)
    made: gym.Env[Any, Any] = gym.make(env, render_mode="rgb_array", **{**_size(env, size), **kwargs})
    made = AddRenderObservation(HeldPictures(made, every))
    if (made.observation_space.shape or ())[:2] != (size, size):
        made = ResizeObservation(made, (size, size))
    stack = FrameStackObservation(made, every * (frames - 1) + 1)
    space = stack.observation_space
    assert isinstance(space, gym.spaces.Box)
    kept = gym.spaces.Box(space.low[::every], space.high[::every], dtype=np.uint8)
    return TransformObservation(stack, lambda seen: seen[::every], kept)


def _import_provider(env: str) -> None:
    """Import the package that registers a namespace of ids.

    Raises:
        ValueError: If a module is named: whoever names one here would have it run.
    """
    if ":" in env:
        raise EnvsValueError(
            f"env is {env!r}; expected an id without a module: import that first (--import), or put it in "
            "front of tdm/Pixels-v0"
        )
    namespace = env.partition("/")[0]
    for entry in entry_points(group="tdm_agents.environments"):
        if entry.name == namespace and env not in gym.registry:
            entry.load()


def _size(env: str, size: int) -> dict[str, Any]:
    """The keyword arguments by which an environment draws in a size; none where it has no such."""
    spec = gym.spec(env)
    if spec.id.startswith("dm_control/"):
        return {"render_kwargs": {"height": size, "width": size, "camera_id": 0}}
    if spec.entry_point is None:
        return {}
    creator = spec.entry_point if callable(spec.entry_point) else load_env_creator(spec.entry_point)
    wanted = {"width": size, "height": size}
    taken = {name for one in _callables(creator) for name in inspect.signature(one).parameters}
    return wanted if wanted.keys() <= taken else {}


def _callables(creator: Any) -> list[Any]:
    """A function, or a class's constructor and those of the classes that it passes arguments on to."""
    if not inspect.isclass(creator):
        return [creator]
    found = []
    for one in creator.__mro__:
        if (constructor := vars(one).get("__init__")) is not None:
            found.append(constructor)
            kinds = [p.kind for p in inspect.signature(constructor).parameters.values()]
            if inspect.Parameter.VAR_KEYWORD not in kinds:
                break
    return found
