"""The specification of the data set that a collection makes of one environment."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tdm_agents.actors.behaviour import BehaviourPolicy
from tdm_agents.collection.names import check_name
from tdm_agents.collection.policy_json import policy_to_json
from tdm_agents.data.minari_io import EPISODES_FOLDER
from tdm_agents.environments import Env, EnvRef
from tdm_agents.errors import WrongValueError
from tdm_agents.json_text import plain_number


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """The episodes of one environment that become one Minari data set.

    An episode is a function of these settings, its policy and its index. The number of other episodes, and
    who plays them, does not matter.

    Attributes:
        env: The environment.
        mix: Policies with different names, and the number of episodes of each.
        name: Folder of the data set inside the collection's. It seeds the episodes together with ``seed``, so
            that no two environments see the same noise; ``""`` = the collection's own folder.
        action_repeat: Environment steps that each action is held; policies that have their own must agree.
        seed: Seed of the collection, at least 0. Environment resets use the range of
            :mod:`tdm_agents.collection.seeds` that no evaluation uses.
        max_steps: Environment steps after which an episode is cut off, for environments without an end.

    Raises:
        ValueError: If a setting makes no sense.
    """

    env: EnvRef
    mix: tuple[tuple[BehaviourPolicy, int], ...]
    name: str = ""
    action_repeat: int = 1
    seed: int = 0
    max_steps: int | None = None

    def __post_init__(self) -> None:
        about = f"{self.name}: " if self.name else ""
        if self.name:
            check_name("name", self.name)
        counts = self.counts
        for called in counts:
            check_name(f"{about}name of a policy", called)
        if len(counts) < len(self.mix) or sum(counts.values()) < 1:
            raise WrongValueError(
                f"{about}mix is {self.mix}; expected at least one episode, and policies with different names"
            )
        for name, value in {"action_repeat": self.action_repeat, "max_steps": self.max_steps}.items():
            if value is not None and value < 1:
                raise WrongValueError(f"{about}{name} is {value}; expected at least 1")
        for name, value in {
            "seed": self.seed,
            **{f"episodes of {name!r}": count for name, count in counts.items()},
        }.items():
            if value < 0:
                raise WrongValueError(f"{about}{name} is {value}; expected at least 0")
        for policy, _ in self.mix:
            if policy.action_repeat not in (None, self.action_repeat):
                raise WrongValueError(
                    f"{about}{policy.name!r} holds its actions for {policy.action_repeat} environment steps, "
                    f"and action_repeat is {self.action_repeat}; one data set has one: collect with "
                    f"action_repeat {policy.action_repeat}"
                )

    def __str__(self) -> str:
        return self.name or str(self.env)

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of episodes by the policy's name."""
        return {policy.name: count for policy, count in self.mix}

    def settings(self) -> dict[str, Any]:
        """All settings except the numbers of episodes, as JSON; they must not change in a collection."""
        plain: dict[str, Any] = json.loads(
            json.dumps(
                {
                    "env_id": self.env.made_by,
                    "env_kwargs": dict(self.env.kwargs),
                    "name": self.name,
                    "action_repeat": self.action_repeat,
                    "seed": self.seed,
                    "max_steps": self.max_steps,
                    "policies": {policy.name: policy_to_json(policy) for policy, _ in self.mix},
                },
                default=plain_number,
            )
        )
        return plain

    def make_env(self) -> Env:
        """A new environment, without Gymnasium's checks at every step."""
        return self.env.make(disable_env_checker=True)

    def folder(self, out: Path) -> Path:
        """Its folder in the collection ``out``."""
        return out / self.name if self.name else out

    def data(self, out: Path) -> Path:
        """Path of its Minari data set, which exists when all its episodes do."""
        return self.folder(out) / "data"

    def shards(self, out: Path) -> Path:
        """Folder of its episodes until then."""
        return self.folder(out) / EPISODES_FOLDER
