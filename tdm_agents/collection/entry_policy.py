"""Any entry as a behaviour policy: a checkpoint, an SB3 policy, a planner on the true dynamics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tdm_agents.actors.behaviour import EpisodeActor
from tdm_agents.actors.contestant import actor_of
from tdm_agents.actors.disturbed import Disturbance, Disturbed
from tdm_agents.actors.entries import parse_entry
from tdm_agents.environments import Env, EnvRef
from tdm_agents.errors import WrongValueError
from tdm_agents.evaluation.as_json import plain
from tdm_agents.storage import hashes

if TYPE_CHECKING:
    from tdm_agents.actors.enter import Entered


@dataclass(frozen=True, slots=True)
class ActorPolicy:
    """The actor of an entry, disturbed.

    Attributes:
        entry: The line, see :mod:`tdm_agents.actors.entries`.
        settings: Everything that was chosen for it, with the sha256 of the files that were read. Filled in by
            :meth:`in_environment`, and checked before it plays.
        noise_sds: Levels of noise; see :class:`~tdm_agents.actors.disturbed.Disturbance`.
        burst_episodes: Fraction of the episodes that have bursts of random actions.
        burst_rate: Probability per decision that a burst begins.
        burst_max: Most decisions that a burst lasts (uniform from 1).
        name: Name of the episodes.

    Raises:
        ValueError: If the line cannot be read, or a setting makes no sense.
    """

    entry: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    noise_sds: tuple[float, ...] = (0.0, 0.1, 0.3, 0.6)
    burst_episodes: float = 0.5
    burst_rate: float = 0.05
    burst_max: int = 12
    name: str = "actor"

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise_sds", tuple(self.noise_sds))
        _ = self.disturbance  # refuses what makes no sense
        parse_entry(self.entry)

    @property
    def disturbance(self) -> Disturbance:
        """The disturbance of its episodes."""
        return Disturbance(self.noise_sds, self.burst_episodes, self.burst_rate, self.burst_max)

    @property
    def action_repeat(self) -> int | None:
        """The entry's own, once its settings are known."""
        repeat = self.settings.get("action_repeat")
        return None if repeat is None else int(repeat)

    def in_environment(self, ref: EnvRef) -> ActorPolicy:
        """The policy with its settings filled in, so that a collection keeps them.

        Raises:
            LookupError: If a name is unknown; other errors are those of
                :func:`tdm_agents.actors.enter.enter`.
        """
        return replace(self, settings=_entered(self.entry, ref)[1])

    def start(self, env: Env, rng: np.random.Generator, *, ref: EnvRef, action_repeat: int) -> EpisodeActor:
        """See :class:`~tdm_agents.actors.behaviour.BehaviourPolicy`.

        Raises:
            ValueError: If the entry's files or settings are not those that the collection began with.
        """
        entered, settings = _entered(self.entry, ref)
        if self.settings and self.settings != settings:
            changed = sorted(
                key for key in {*self.settings, *settings} if self.settings.get(key) != settings.get(key)
            )
            raise WrongValueError(
                f"{self.entry!r} is not what the collection began with: its {', '.join(changed)} changed; "
                "restore it, or collect into another folder"
            )
        drawn = self.disturbance.draw(rng)
        actor = actor_of(entered.contestant, [env], seed=int(rng.integers(2**63)))
        disturbed = Disturbed(actor, env.action_space, drawn, rng)
        return EpisodeActor(disturbed, disturbed.drawn)


@lru_cache(maxsize=4)
def _entered(entry: str, ref: EnvRef) -> tuple[Entered, dict[str, Any]]:
    """The contestant of an entry, read once per process, and everything that was chosen for it, as JSON."""
    # imported here: simulators are heavy to import, and a random collection needs none
    from tdm_agents.actors.enter import enter

    entered = enter(parse_entry(entry), ref)
    return entered, plain({**entered.settings, "sha256": hashes(entered.files)})
