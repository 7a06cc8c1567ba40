"""Behaviour policies that data are collected with: correlated noise, and a planner on the true dynamics.

Random data alone do not show a model where good behaviour goes, planner data alone do not show it what
mistakes do; half of each, both disturbed, trained the best models (design notes, TRAINING.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch

from tdm_agents.data.names import check_name
from tdm_agents.protocols import History, Planner, WorldModel
from tdm_agents.registry import make_planner
from tdm_agents.spaces import ActionCodec, FloatArray


class EpisodePolicy(Protocol):
    """One episode of a behaviour policy, with what was drawn for it."""

    @property
    def drawn(self) -> Mapping[str, float]:
        """The episode's own settings, recorded beside its data."""
        ...

    def act(self, observation: FloatArray) -> FloatArray:
        """The action ``[m]`` in [-1, 1] of the next decision, noise included; ``observation`` is ``[n]``."""
        ...


class BehaviourPolicy(Protocol):
    """Settings of a policy: a frozen dataclass that can be sent to a worker process."""

    @property
    def name(self) -> str:
        """Names its episodes, and seeds them together with their index."""
        ...

    def start(self, env: gym.Env[Any, Any], rng: np.random.Generator, *, action_repeat: int) -> EpisodePolicy:
        """Draw the settings of one episode; ``env`` was reset already."""
        ...


@dataclass(frozen=True, slots=True)
class RandomPolicy:
    """Correlated noise ``x' = rho x + sqrt(1 - rho^2) e``, times a scale, clipped to [-1, 1].

    Both are drawn for each episode, so that some episodes barely move and some are nearly bang-bang.

    Attributes:
        name: Of the episodes.
        max_correlation: ``rho`` between decisions is uniform in [0, max_correlation].
        min_scale: The scale is log-uniform in [min_scale, max_scale].
        max_scale: At 3, two of three actions are at a bound.

    Raises:
        ValueError: If not 0 <= ``max_correlation`` < 1, or not 0 < ``min_scale`` <= ``max_scale``.
    """

    name: str = "random"
    max_correlation: float = 0.95
    min_scale: float = 0.1
    max_scale: float = 3.0

    def __post_init__(self) -> None:
        if not 0 <= self.max_correlation < 1 or not 0 < self.min_scale <= self.max_scale:
            raise ValueError(f"{self}: expected 0 <= max_correlation < 1 and 0 < min_scale <= max_scale")

    def start(self, env: gym.Env[Any, Any], rng: np.random.Generator, *, action_repeat: int) -> EpisodePolicy:
        """See :class:`BehaviourPolicy`."""
        return _RandomEpisode(
            dim=ActionCodec(env.action_space).dim,
            correlation=float(rng.uniform(0, self.max_correlation)),
            scale=float(np.exp(rng.uniform(np.log(self.min_scale), np.log(self.max_scale)))),
            rng=rng,
        )


class _RandomEpisode:
    def __init__(self, *, dim: int, correlation: float, scale: float, rng: np.random.Generator) -> None:
        self.drawn = {"correlation": correlation, "scale": scale}
        self._rng = rng
        self._noise = rng.standard_normal(dim)  # stationary from the first decision on

    def act(self, observation: FloatArray) -> FloatArray:
        rho = self.drawn["correlation"]
        action = np.clip(self.drawn["scale"] * self._noise, -1, 1).astype(np.float32)
        fresh = self._rng.standard_normal(self._noise.shape)
        self._noise = rho * self._noise + np.sqrt(1 - rho * rho) * fresh
        return action


@dataclass(frozen=True, slots=True)
class PlannerPolicy:
    """A planner on the true dynamics, disturbed so that its data also show how to recover.

    Attributes:
        planner: Name in the registry.
        settings: Of the planner; completed with its defaults.
        guide: Slope of what is maximised where a walker's reward is flat, see
            :class:`tdm_envs.walkers.task.WalkerTask`; 0 = the reward itself.
        noise_sds: Standard deviation of Gaussian noise on every action, drawn for each episode from these.
        burst_episodes: Fraction of the episodes that have bursts of uniformly random actions.
        burst_rate: Probability a decision that a burst begins.
        burst_max: Decisions that a burst lasts at most (uniform from 1).
        name: Of the episodes.

    Raises:
        ValueError: If a setting makes no sense.
        LookupError: If there is no such planner.
        TypeError: If the planner has no such setting.
    """

    planner: str = "mppi"
    settings: Mapping[str, Any] = field(default_factory=dict)
    guide: float = 0.0
    noise_sds: tuple[float, ...] = (0.0, 0.1, 0.3, 0.6)
    burst_episodes: float = 0.5
    burst_rate: float = 0.05
    burst_max: int = 12
    name: str = "planner"

    def __post_init__(self) -> None:
        if not self.noise_sds or min(self.noise_sds) < 0 or self.burst_max < 1:
            raise ValueError(f"{self}: expected noise_sds of at least 0 and burst_max of at least 1")
        # an unknown name or setting fails here, not in a worker; and the record of a collection holds every
        # setting, so that it does not depend on the defaults of a version
        planner: Any = make_planner(self.planner, **self.settings)
        object.__setattr__(self, "noise_sds", tuple(self.noise_sds))
        object.__setattr__(self, "settings", asdict(planner))

    def start(self, env: gym.Env[Any, Any], rng: np.random.Generator, *, action_repeat: int) -> EpisodePolicy:
        """See :class:`BehaviourPolicy`."""
        # here, since simulators are heavy to import and a random collection needs none
        from tdm_agents.world_models.simulator import SimulatorModel
        from tdm_envs.tasks import batched_task_of

        fast = batched_task_of(env, guide=self.guide)
        model = SimulatorModel(env, action_repeat=action_repeat, threads=1, fast=fast)
        bursts = rng.random() < self.burst_episodes
        return _PlannerEpisode(
            model=model,
            planner=make_planner(self.planner, **self.settings),
            noise_sd=float(rng.choice(self.noise_sds)),
            burst_rate=self.burst_rate if bursts else 0.0,
            burst_max=self.burst_max,
            rng=rng,
        )


class _PlannerEpisode:
    def __init__(
        self,
        *,
        model: WorldModel[Any],
        planner: Planner,
        noise_sd: float,
        burst_rate: float,
        burst_max: int,
        rng: np.random.Generator,
    ) -> None:
        self.drawn = {"noise_sd": noise_sd, "burst_rate": burst_rate}
        self._model = model
        self._planner = planner
        self._rng = rng
        self._burst_max = burst_max
        self._burst = 0  # decisions that are left of the present burst
        self._generator = torch.Generator(device=model.spec.device).manual_seed(int(rng.integers(2**63)))
        self._carry = planner.init(model.spec, 1)
        self._elapsed = 0

    def act(self, observation: FloatArray) -> FloatArray:
        dim = self._model.spec.action_dim
        if self._burst == 0 and self._rng.random() < self.drawn["burst_rate"]:
            self._burst = int(self._rng.integers(1, self._burst_max, endpoint=True))
        if self._burst:
            self._burst -= 1
            # no plan is made that nobody executes; the next one is shifted by all that passed
            self._elapsed += bool(self._elapsed)
            return self._rng.uniform(-1, 1, dim).astype(np.float32)
        history = History.of_observation(torch.from_numpy(observation)[None], action_dim=dim)
        state = self._model.start(history, horizon=self._planner.horizon)
        plan = self._planner.plan(
            self._model,
            state,
            self._carry,
            elapsed=torch.tensor([self._elapsed]),
            generator=self._generator,
        )
        self._carry = plan.carry
        self._elapsed = 1
        noise = self.drawn["noise_sd"] * self._rng.standard_normal(dim)
        return np.clip(plan.action[0].cpu().numpy() + noise, -1, 1).astype(np.float32)


KINDS: Mapping[str, type[RandomPolicy] | type[PlannerPolicy]] = {
    kind.__name__: kind for kind in (RandomPolicy, PlannerPolicy)
}
"""What a manifest may call a policy's kind."""


def policy_to_json(policy: BehaviourPolicy) -> dict[str, Any]:
    """The settings of a policy without its name, as JSON sees them (tuples become lists)."""
    settings: dict[str, Any] = json.loads(json.dumps(asdict(policy)))  # type: ignore[call-overload]
    del settings["name"]
    return {"kind": type(policy).__name__, **settings}


def policy_from_json(name: str, value: Mapping[str, Any]) -> BehaviourPolicy:
    """The inverse of :func:`policy_to_json`; settings that are not said have their defaults.

    Raises:
        ValueError: If the name is not that of a file, the kind is unknown, or a setting makes no sense.
        TypeError: If there is no such setting, or its value is of another type.
        LookupError: If there is no such planner.
    """
    check_name("name of a policy", name)
    if not isinstance(value, Mapping):
        raise TypeError(f"policy {name!r} is {value!r}; expected an object with its kind and settings")
    settings = dict(value)
    kind = settings.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"policy {name!r} has kind {kind!r}; expected one of {', '.join(KINDS)}")
    known = {field.name: str(field.type) for field in fields(KINDS[kind]) if field.name != "name"}
    for setting, given in settings.items():
        if setting not in known:
            raise TypeError(f"policy {name!r} has {setting!r}; expected only {', '.join(sorted(known))}")
        expected, fits = _IN_JSON[known[setting]]
        if not fits(given):
            raise TypeError(f"policy {name!r}: {setting} is {given!r}; expected {expected}")
    return KINDS[kind](**settings, name=name)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_IN_JSON: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "str": ("text", lambda value: isinstance(value, str)),
    "int": ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    "float": ("a number", _is_number),
    "tuple[float, ...]": (
        "a list of numbers",
        lambda value: isinstance(value, list) and all(map(_is_number, value)),
    ),
    "Mapping[str, Any]": ("an object", lambda value: isinstance(value, dict)),
}
"""How a manifest writes a setting of a type: in words, and as a check."""
