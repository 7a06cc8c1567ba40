"""Names of observation scalars, and the roles that environments of one kind share.

An environment may say what its observation scalars are, as an attribute ``observation_names``: one text per
scalar of the flat observation. Two bodies then agree on what they have in common, although the same number
stands at different places of their observations.

Where it says nothing, people read what its space says (:mod:`tdm_agents.spaces.scalar_labels`); roles are
only made of what the environment says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import gymnasium as gym

from tdm_agents.errors import WrongValueError
from tdm_agents.spaces.observations import ObservationCodec
from tdm_agents.spaces.scalar_labels import scalar_labels

ATTRIBUTE = "observation_names"
MAX_LENGTH = 200
"""Characters per name."""


def observation_names(env: gym.Env[Any, Any]) -> tuple[str, ...]:
    """What an environment calls the scalars of its flat observation; empty where it does not say.

    They count only if they are as many as the scalars, which they are not where a wrapper changes the
    observation.

    Raises:
        ValueError: If a name is not text, or stands twice.
    """
    try:
        found = env.get_wrapper_attr(ATTRIBUTE)
    except AttributeError:
        return ()
    scalars = ObservationCodec(env.observation_space, images=True).dim
    if not isinstance(found, Sequence) or isinstance(found, str) or len(found) != scalars:
        return ()
    names = tuple(found)
    check_names(names, scalars)
    return names


def check_names(names: Sequence[Any], scalars: int) -> None:
    """Refuse names that are not one different text per scalar; no names at all are accepted.

    Raises:
        ValueError: If they are not.
    """
    if not names:
        return
    wrong = [name for name in names if not isinstance(name, str) or not 0 < len(name) <= MAX_LENGTH]
    if wrong or len(names) != scalars or len(set(names)) != len(names):
        raise WrongValueError(
            f"{ATTRIBUTE} are {str(list(names))[:120]}; expected {scalars} different texts of at most "
            f"{MAX_LENGTH} characters, one per observation scalar"
        )


def names_or_numbers(names: Sequence[str], scalars: int) -> tuple[str, ...]:
    """The names, or the scalars' numbers where there are no names."""
    return tuple(names) or tuple(map(str, range(scalars)))


def role(name: str) -> str:
    """What a scalar is, whichever of several: ``hinge3_angle`` and ``hinge12_angle`` are ``hinge#_angle``.

    A scalar that has a number for a name is a role of its own.
    """
    return name if name.isdigit() else re.sub(r"\d+", "#", name)


def labels_of(env: gym.Env[Any, Any]) -> tuple[str, ...]:
    """What people call the scalars of an environment's flat observation."""
    return scalar_labels(env.observation_space, observation_names(env))
