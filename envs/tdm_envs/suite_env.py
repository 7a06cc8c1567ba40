"""dm_control's suite as Gymnasium environments, unchanged or with other physical constants.

``gym.make("tdm_envs:tdm/Suite-v0", domain="walker", task="walk")``, and with ``variant=3`` the same task for
another walker.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from dm_control import suite
from dm_control.mujoco.wrapper import core
from dm_control.rl import control
from gymnasium import spaces

from tdm_envs.mistakes import EnvsValueError
from tdm_envs.suite_state import Array, read_state, write_state, written_fields
from tdm_envs.suite_variants import Factors, draw_factors, variant_groups, varied_model
from tdm_envs.walkers.env import PhysicsDivergedError, refuse_impossible_state
from tdm_envs.walkers.rendering import Screen

Observation = Any
"""float32 ``[n]``, or the dictionary of float32 arrays with ``flat=False``."""

REDRAW: Final = "redraw"
"""``variant=REDRAW``: every episode has its own variant, which ``info["variant"]`` names."""

DEFAULT_SCALE: Final = 1.4

_NOMINAL = -1.0  # stands for no variant in a saved state
_MAX_SEED = 2**32 - 1
_GOALS = frozenset({"target_pos", "target_position"})  # observed, and constant within an episode


class SuiteEnv(gym.Env[Any, npt.NDArray[np.float32]]):
    """A task of dm_control's suite.

    A seed gives the same episode as Shimmy's environment of that task, bit for bit (except for ``lqr``, whose
    model dm_control draws whenever one is made; here it is always the same), but

    - observations are one float32 vector, the keys of dm_control's dictionary in sorted order, as Gymnasium
      flattens a ``Dict`` (Shimmy: the dictionary, of float64, whose scalars Stable-Baselines3 refuses);
    - actions are float32, rewards always floats (Shimmy: float64, and the integer 0 for none);
    - the time limit is Gymnasium's own: ``max_episode_steps``, 1000 as in all of the suite (Shimmy: counted
      by dm_control, and a step after the end silently begins another episode);
    - ``render_fps`` is in frames per second, for this environment (Shimmy: 1000 times the seconds per step,
      shared by all environments, so that the last one made decides);
    - :meth:`state` and :meth:`restore` save and continue an episode.

    Args:
        domain: Domain of the suite, for example ``"walker"``.
        task: Task of the domain, for example ``"walk"``.
        variant: None for dm_control's own constants; a seed for others, the same in every episode; or
            ``"redraw"`` for new ones in each episode.
        scale: With a variant: constants are multiplied by factors that are log-uniform in
            ``[1 / scale, scale]``; None for :data:`DEFAULT_SCALE`.
        groups: With a variant: the constants to change, of :data:`~tdm_envs.suite_variants.GROUPS`; None
            for all.
        flat: False for the dictionary, in float32, which models of Shimmy's environments read.
        render_mode: None, ``"rgb_array"`` or ``"human"``.
        width: Width of a frame, in pixels.
        height: Height of a frame, in pixels.

    Raises:
        ValueError: If there is no such task, or an argument is out of its range.
        TypeError: If ``variant`` is none of these.

    Attributes:
        domain: The given domain.
        task: The given task.
        variant: The seed of the present constants; None where they are dm_control's.
        factors: Factor of each constant, by group and element; empty without a variant.
        observation_names: Names of the observation scalars, in the order of the flat vector.
        constant_observations: Indices of scalars that never change within an episode: the goal's.
    """

    metadata = {  # noqa: RUF012 (Gymnasium declares it without ClassVar)
        "render_modes": ["human", "rgb_array"]
    }

    def __init__(
        self,
        domain: str,
        task: str,
        variant: int | Literal["redraw"] | None = None,
        scale: float | None = None,
        groups: Sequence[str] | None = None,
        flat: bool = True,
        render_mode: str | None = None,
        width: int = 320,
        height: int = 240,
    ) -> None:
        _refuse_unknown(domain, task)
        self._screen = Screen(render_mode, width, height)
        if isinstance(variant, str) and variant != REDRAW:
            raise EnvsValueError(f"variant is {variant!r}; expected None, an integer or {REDRAW!r}")
        for name, value in (("scale", scale), ("groups", groups)):
            if variant is None and value is not None:
                raise EnvsValueError(f"{name} is {value!r} without a variant to draw; pass variant= as well")
        self.domain = domain
        self.task = task
        self.variant: int | None = None
        self.factors: Factors = {}
        # named as in Shimmy's environment, so that code that reads the physics there works here; random=0
        # because lqr draws its model from the generator, which is otherwise seeded by the system until reset
        self._env: Any = suite.load(domain, task, {"random": 0, "time_limit": float("inf")})
        self._env.task.random.seed()
        self._nominal: Any = copy.copy(self.model)
        self._scale = DEFAULT_SCALE if scale is None else scale
        self._groups = variant_groups(domain, groups)
        self._redraw = variant == REDRAW
        self._begun = False
        self._written = written_fields(domain, task)
        if variant is not None:
            self._become(0 if isinstance(variant, str) else variant)

        self.metadata = {**type(self).metadata, "render_fps": round(1.0 / self.dt)}
        self.render_mode = render_mode
        self._flat = flat
        shapes = {key: spec.shape for key, spec in sorted(self._env.observation_spec().items())}
        self._keys = tuple(shapes)
        scalars = [(key, name) for key, shape in shapes.items() for name in _scalar_names(key, shape)]
        self.observation_names = tuple(name for _, name in scalars)
        self.constant_observations = tuple(i for i, (key, _) in enumerate(scalars) if key in _GOALS)
        structure = spaces.Dict(
            {key: spaces.Box(-np.inf, np.inf, shape, np.float32) for key, shape in shapes.items()}
        )
        self.observation_space = spaces.flatten_space(structure) if flat else structure
        bounds = self._env.action_spec()
        low, high = bounds.minimum.astype(np.float32), bounds.maximum.astype(np.float32)
        self.action_space: spaces.Box[np.float32] = spaces.Box(low, high, dtype=np.float32)

    @property
    def model(self) -> Any:
        """The ``mujoco.MjModel``; a new object after a reset that drew other constants."""
        return self._env.physics.model.ptr

    @property
    def data(self) -> Any:
        """``mujoco.MjData``."""
        return self._env.physics.data.ptr

    @property
    def dt(self) -> float:
        """Seconds per environment step."""
        return float(self._env.control_timestep())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; ``info`` names the task and, with a variant, its seed and all factors.

        Raises:
            ValueError: If ``seed`` has more than the 32 bits that dm_control's generators take.
        """
        if seed is not None and seed > _MAX_SEED:
            raise EnvsValueError(
                f"seed is {seed}; expected 0 to {_MAX_SEED}, which dm_control's generators take"
            )
        super().reset(seed=seed)
        if seed is not None:
            self._env.task.random.seed(seed)
        if self._redraw:
            self._become(int(self.np_random.integers(2**31)))
        with self._divergence_named():
            observation = self._env.reset().observation
        self._begun = True
        if self.render_mode == "human":
            self.render()
        info: dict[str, Any] = {"domain": self.domain, "task": self.task}
        if self.variant is not None:
            info |= {"variant": self.variant, "factors": copy.deepcopy(self.factors)}
        return self._observed(observation), info

    def step(self, action: npt.NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Advance by :attr:`dt`; only ``lqr`` terminates.

        Raises:
            ValueError: If the action has another shape or is not finite.
            PhysicsDivergedError: If the state is no longer finite.
        """
        if np.shape(action) != self.action_space.shape:
            raise ValueError(f"action has shape {np.shape(action)}; expected {self.action_space.shape}")
        if not np.isfinite(action).all():
            raise ValueError(f"action is {action}; expected finite numbers")
        task, physics = self._env.task, self._env.physics
        task.before_step(action, physics)
        with self._divergence_named():
            physics.step(self._env._n_sub_steps)
        task.after_step(physics)
        reward = float(task.get_reward(physics))
        observation = self._observed(task.get_observation(physics))
        discount = task.get_termination(physics)  # dm_env's: None means to go on, 0 the end of all rewards
        if self.render_mode == "human":
            self.render()
        return observation, reward, discount == 0.0, discount is not None and discount > 0.0, {}

    def state(self) -> Array:
        """Everything that the episode's future depends on; :meth:`restore` continues to the last bit.

        It excludes the generators of later episodes, and the time limit, which Gymnasium's wrapper counts.
        """
        variant = _NOMINAL if self.variant is None else float(self.variant)
        return np.concatenate([[variant], read_state(self.model, self.data, self._written)])

    def restore(self, state: Array) -> Observation:
        """Go back to a :meth:`state` of this task, variant, scale and groups, and return its observation.

        Raises:
            ValueError: If it is the state of another task or variant, or not finite.
        """
        refuse_impossible_state(state, len(self.state()), f"{self.domain} {self.task}")
        variant = None if state[0] == _NOMINAL else int(state[0])
        if variant != self.variant:
            if not self._redraw or variant is None:
                raise ValueError(f"state is of variant {variant}; this environment is variant {self.variant}")
            self._become(variant)
        if not self._begun:
            self._measure_model()
        write_state(self.model, self.data, self._written, state[1:])
        return self._observed(self._env.task.get_observation(self._env.physics))

    def render(self) -> npt.NDArray[np.uint8] | None:
        """A frame ``[height, width, 3]`` of the model's first camera, or the window for ``"human"``."""
        return self._screen.draw(
            self.model, self.data, self.model.camera(0).name, self.metadata["render_fps"]
        )

    def close(self) -> None:
        """Free the renderer."""
        self._screen.close()

    def _become(self, variant: int) -> None:
        """Change to the constants of a variant, in a new model."""
        self.factors = draw_factors(
            self._nominal, self.domain, self.task, variant, scale=self._scale, groups=self._groups
        )
        self.variant = int(variant)
        self._begun = False
        model = varied_model(self._nominal, self.domain, self.task, self.factors)
        # dm_control's public ways to reload need a file, which would round the constants
        self._env.physics._reload_from_model(core.MjModel(model))
        self.close()  # a renderer would draw the old model

    def _measure_model(self) -> None:
        """Let the task measure its model, as dog's do when an episode begins; no random number is used."""
        generator = self._env.task.random
        before = generator.get_state()
        self._env.reset()
        generator.set_state(before)
        self._begun = True

    @contextmanager
    def _divergence_named(self) -> Iterator[None]:
        try:
            yield
        except control.PhysicsError as error:
            body = "" if self.variant is None else f", variant {self.variant} at scale {self._scale},"
            raise PhysicsDivergedError(
                f"the physics of {self.domain} {self.task}{body} diverged ({error}); reset the environment, "
                "and where it happens again take a smaller scale or fewer groups"
            ) from error

    def _observed(self, observation: Any) -> Observation:
        arrays = {key: np.array(observation[key], np.float32) for key in self._keys}
        return np.concatenate([array.ravel() for array in arrays.values()]) if self._flat else arrays


def _scalar_names(key: str, shape: tuple[int, ...]) -> list[str]:
    if not shape:
        return [key]
    return [f"{key}[{', '.join(map(str, index))}]" for index in np.ndindex(shape)]


def _refuse_unknown(domain: str, task: str) -> None:
    if domain not in (domains := sorted({known for known, _ in suite.ALL_TASKS})):
        raise EnvsValueError(f"domain is {domain!r}; {_near(domain, domains)}")
    if task not in (tasks := [known for owner, known in suite.ALL_TASKS if owner == domain]):
        raise EnvsValueError(f"task is {task!r}; {_near(task, tasks)} of {domain}")


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}expected one of {', '.join(known)}"
