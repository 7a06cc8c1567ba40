"""The actors of a collection, one line each: an entry, how many episodes, and how they are disturbed.

::

    random                                   actions that are correlated in time
    random episodes=50 max_correlation=0.5
    expert                                   tuned for the environment, disturbed
    simulator planner=cem num_samples=64     a planner on the true dynamics
    runs/model episodes=100 noise_sds=[0.0]  a checkpoint, without noise on its actions
    waypoints episodes=500                   a controller that knows the way through a maze
    waypoints wander=true                    the same, to random places instead of the goal
    sac.zip action_repeat=4 label=sac        what Stable-Baselines3 saved

The rest of a line is read as in every entry (:mod:`tdm_agents.actors.entries`); ``label`` names the episodes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tdm_agents.actors.behaviour import BehaviourPolicy, PlannerPolicy, RandomPolicy
from tdm_agents.actors.disturbed import Disturbance
from tdm_agents.actors.entries import EXPERT, OPTIONS
from tdm_agents.actors.tuned import expert_for
from tdm_agents.collection.entry_policy import ActorPolicy
from tdm_agents.environments import EnvRef
from tdm_agents.errors import WrongValueError
from tdm_agents.registry import check_settings
from tdm_agents.settings_text import parse_settings, split_line

EPISODES = 200
"""Number of episodes of each actor, by default."""
_DISTURBANCE = {field.name for field in fields(Disturbance)}


@dataclass(frozen=True, slots=True)
class ActorLine:
    """The meaning of a line.

    Attributes:
        policy: The policy that plays.
        episodes: Number of episodes.
        action_repeat: Environment steps that its actions are best held; None where it does not matter.
    """

    policy: BehaviourPolicy
    episodes: int
    action_repeat: int | None = None


def parse_actor(text: str, env: EnvRef) -> ActorLine:
    """The meaning of a line in an environment; checkpoints and zips are read.

    Args:
        text: The line.
        env: The environment.

    Raises:
        ValueError: If the line cannot be read, or a setting makes no sense.
        TypeError: If there is no such setting.
        LookupError: If there is no such checkpoint, planner or expert.
    """
    source, words = split_line(text, "who plays: random, expert, simulator, waypoints, a checkpoint, a .zip")
    label = words.pop("label", None)
    texts = {name.replace("-", "_"): value for name, value in words.items()}
    own = parse_settings({name: texts.pop(name) for name in ("episodes", *_DISTURBANCE) if name in texts})
    episodes = own.pop("episodes", EPISODES)
    if not isinstance(episodes, int) or isinstance(episodes, bool) or episodes < 1:
        raise WrongValueError(f"{text!r}: episodes is {episodes!r}; expected a whole number of at least 1")
    if "noise_sds" in own:
        own["noise_sds"] = tuple(own["noise_sds"])
    settings = parse_settings(texts)
    repeat: int | None = None
    policy: BehaviourPolicy
    if source == "random":
        check_settings("random", RandomPolicy, {**settings, **own})
        policy = RandomPolicy(**settings)
    elif source == EXPERT and not settings:
        expert = expert_for(env)
        policy, repeat = replace(expert.make_policy(), **own), expert.action_repeat
    elif source == "simulator" and _is_plain(settings):
        policy = PlannerPolicy(settings.pop("planner"), settings, **own)
    else:
        entry = shlex.join([source, *(f"{name}={value}" for name, value in texts.items())])
        policy = ActorPolicy(entry, name=_name(source), **own).in_environment(env)
        repeat = policy.action_repeat
    if label is not None:
        policy = replace(policy, name=label)
    return ActorLine(policy, episodes, repeat)


def _is_plain(settings: Mapping[str, Any]) -> bool:
    """Whether a simulator's line names only its planner and settings of that planner."""
    asked = set(OPTIONS["simulator"]) & set(settings)
    return asked == {"planner"} and settings["planner"] != EXPERT


def _name(source: str) -> str:
    """The name of the episodes: ``"sac"`` for ``models/sac.zip``."""
    path = Path(source)
    plain = path.stem if path.suffix == ".zip" else path.name
    return re.sub(r"[^-\w.]+", "_", plain).lstrip("-.") or "actor"
