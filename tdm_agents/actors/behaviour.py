"""Behaviour policies that data are collected with: random actions, and a planner on the true dynamics.

Random data alone do not show a model where good behaviour leads, and planner data alone do not show it what
mistakes do. Half of each, the planner's disturbed, trained the best models (design notes, TRAINING.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from tdm_agents.actors.actor import Actor
from tdm_agents.actors.disturbed import Disturbance, Disturbed
from tdm_agents.actors.random_episodes import CorrelatedNoise, HeldChoices
from tdm_agents.environments import Env, EnvRef
from tdm_agents.errors import WrongValueError
from tdm_agents.registry import make_planner
from tdm_agents.spaces import DiscreteActionCodec, action_codec


@dataclass(frozen=True, slots=True)
class EpisodeActor:
    """The actor of one episode.

    Attributes:
        actor: The actor, in one environment.
        drawn: The episode's own settings, recorded beside its data.
    """

    actor: Actor
    drawn: Mapping[str, float]


class BehaviourPolicy(Protocol):
    """Settings of who plays: a frozen dataclass that can be sent to a worker process."""

    @property
    def name(self) -> str:
        """Name of its episodes, which seeds them together with their index."""
        ...

    @property
    def action_repeat(self) -> int | None:
        """Environment steps that its actions have to be held; None where any number will do."""
        ...

    def start(self, env: Env, rng: np.random.Generator, *, ref: EnvRef, action_repeat: int) -> EpisodeActor:
        """Draw the settings of one episode.

        Args:
            env: The environment, already reset.
            rng: The episode's source of randomness.
            ref: The environment by name.
            action_repeat: Environment steps that actions are held.

        Raises:
            TypeError: If the policy cannot act in this environment.
            ValueError: If the policy cannot act in this environment.
        """
        ...


@dataclass(frozen=True, slots=True)
class RandomPolicy:
    """Random actions that are correlated in time: coloured noise, or choices that are held for a while.

    In a ``Box``: noise ``x' = rho x + sqrt(1 - rho^2) e``, times a scale, clipped to the bounds. In a
    ``Discrete`` or ``MultiDiscrete``: uniform choices, each kept with probability ``rho``. ``rho`` and the
    scale are drawn for each episode, so that some episodes barely move and some are nearly bang-bang.

    Attributes:
        name: Name of the episodes.
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
            raise WrongValueError(f"{self}: expected 0 <= max_correlation < 1 and 0 < min_scale <= max_scale")

    @property
    def action_repeat(self) -> int | None:
        """Any number will do."""
        return None

    def start(self, env: Env, rng: np.random.Generator, *, ref: EnvRef, action_repeat: int) -> EpisodeActor:
        """See :class:`BehaviourPolicy`."""
        codec = action_codec(env.action_space)
        rho = float(rng.uniform(0, self.max_correlation))
        if isinstance(codec, DiscreteActionCodec):
            return EpisodeActor(HeldChoices(codec, hold=rho, rng=rng), {"correlation": rho})
        scale = float(np.exp(rng.uniform(np.log(self.min_scale), np.log(self.max_scale))))
        actor = CorrelatedNoise(codec, correlation=rho, scale=scale, rng=rng)
        return EpisodeActor(actor, {"correlation": rho, "scale": scale})


@dataclass(frozen=True, slots=True)
class PlannerPolicy:
    """A planner on the true dynamics, disturbed so that its data also show how to recover.

    Attributes:
        planner: The planner's name in the registry.
        settings: Settings of the planner, completed with its defaults.
        guide: Slope of what is maximised where a walker's reward is flat, see
            :class:`tdm_envs.walkers.task.WalkerTask`; 0 = the reward itself.
        noise_sds: Levels of noise; see :class:`~tdm_agents.actors.disturbed.Disturbance`.
        burst_episodes: Fraction of the episodes that have bursts of random actions.
        burst_rate: Probability per decision that a burst begins.
        burst_max: Most decisions that a burst lasts (uniform from 1).
        name: Name of the episodes.

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
        object.__setattr__(self, "noise_sds", tuple(self.noise_sds))
        _ = self.disturbance  # refuses what makes no sense
        # an unknown name or setting fails here, not in a worker; and the record of a collection holds every
        # setting, so that it does not depend on the defaults of a version
        planner: Any = make_planner(self.planner, **self.settings)
        object.__setattr__(self, "settings", asdict(planner))

    @property
    def disturbance(self) -> Disturbance:
        """The disturbance of its episodes."""
        return Disturbance(self.noise_sds, self.burst_episodes, self.burst_rate, self.burst_max)

    @property
    def action_repeat(self) -> int | None:
        """Any number will do."""
        return None

    def start(self, env: Env, rng: np.random.Generator, *, ref: EnvRef, action_repeat: int) -> EpisodeActor:
        """See :class:`BehaviourPolicy`."""
        # imported here: simulators are heavy to import, and a random collection needs none
        from tdm_agents.actors.agents import AgentFactory
        from tdm_agents.actors.contestant import actor_of
        from tdm_agents.actors.simulators import true_dynamics

        factory = AgentFactory(
            true_dynamics(action_repeat=action_repeat, guide=self.guide),
            make_planner(self.planner, **self.settings),
        )
        agent = factory([env])  # first: what cannot be simulated is refused before anything is drawn
        drawn = self.disturbance.draw(rng)
        actor = actor_of(agent, [env], seed=int(rng.integers(2**63)))
        disturbed = Disturbed(actor, env.action_space, drawn, rng)
        return EpisodeActor(disturbed, disturbed.drawn)
