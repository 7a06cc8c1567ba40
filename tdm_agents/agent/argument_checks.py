"""Checks of what an agent is made of: planner, model, seed."""

from __future__ import annotations

import math
import operator
from numbers import Integral, Real
from typing import Any

from tdm_agents.errors import WrongTypeError, WrongValueError
from tdm_agents.protocols import AnytimePlanner, Planner, WorldModel
from tdm_agents.spaces import ActionCodec, DiscreteActionCodec, ObservationCodec


def check_planner(planner: Any) -> None:
    """Refuse anything but a planner that has been built.

    Raises:
        TypeError: If it has no ``init()`` or ``plan()``, or its horizon is not an integer.
        ValueError: If its horizon is less than 1.
    """
    if isinstance(planner, type) or not all(callable(getattr(planner, n, None)) for n in ("init", "plan")):
        name = planner if isinstance(planner, str) else "mppi"
        raise WrongTypeError(
            f"planner is {planner!r}; expected a planner, an object with init() and plan(): build one with "
            f"tdm_agents.make_planner({name!r}, ...)"
        )
    kind, horizon = type(planner).__name__, getattr(planner, "horizon", None)
    if isinstance(horizon, bool) or not isinstance(horizon, Integral):
        raise WrongTypeError(
            f"horizon of {kind} is {horizon!r}; expected an integer, decisions imagined ahead"
        )
    if int(horizon) < 1:
        raise WrongValueError(
            f"horizon of {kind} is {horizon}; expected at least 1, decisions imagined ahead"
        )


def check_replan_every(value: Any, planner: Planner) -> None:
    """Refuse a number of decisions per plan for which the planner's plans are too short.

    Raises:
        TypeError: If it is not an integer.
        ValueError: If it is not from 1 to the planner's horizon.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise WrongTypeError(
            f"replan_every is {value!r}; expected an integer, decisions per plan: for example 1"
        )
    if int(value) < 1:
        raise WrongValueError(f"replan_every is {value}; expected at least 1, which plans at every decision")
    if int(value) > planner.horizon:
        raise WrongValueError(
            f"replan_every is {value}, but {type(planner).__name__} plans {planner.horizon} ahead; "
            "expected at most as many: raise the planner's horizon or lower replan_every"
        )


def check_deadline(value: Any, planner: Planner) -> None:
    """Refuse a time for a decision that is none, or that the planner cannot keep to.

    Raises:
        TypeError: If it is not a number, or the planner cannot stop early.
        ValueError: If it is not more than 0 and finite.
    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Real):
        raise WrongTypeError(f"deadline is {value!r}; expected seconds per decision, for example 0.04")
    if not 0.0 < float(value) < math.inf:
        raise WrongValueError(f"deadline is {value}; expected seconds per decision, more than 0")
    if not isinstance(planner, AnytimePlanner):
        raise WrongTypeError(
            f"deadline is {value}, but {type(planner).__name__} cannot stop early; expected a planner whose "
            "plan() takes a deadline (tdm_agents.protocols.AnytimePlanner; mppi does), or leave deadline out"
        )


def integer_seed(seed: Any) -> int:
    """A seed as an ``int`` that ``torch.Generator`` takes.

    Raises:
        TypeError: If it is not an integer.
        ValueError: If it has more than 64 bits.
    """
    try:
        value = operator.index(seed)
    except TypeError as error:
        raise WrongTypeError(f"seed is {seed!r}; expected an integer, for example seed=0") from error
    if not -(2**63) <= value < 2**64:
        raise WrongValueError(f"seed is {value}; expected an integer of 64 bits, for example seed=0")
    return value


def check_codecs(
    model: WorldModel[Any], observation: ObservationCodec, action: ActionCodec | DiscreteActionCodec
) -> None:
    """Refuse a model whose spec states other numbers of scalars or choices than its spaces have.

    Args:
        model: The model.
        observation: Codec of its observation space.
        action: Codec of its action space.

    Raises:
        ValueError: If a number differs; the message names the first.
    """
    spec = model.spec
    kind, choices = "continuous", tuple[int, ...]()
    if isinstance(action, DiscreteActionCodec):
        kind, choices = "discrete", action.choices
    for what, of_space, stated in (
        ("observation_dim", observation.dim, spec.observation_dim),
        ("action_dim", action.dim, spec.action_dim),
        ("action_kind", kind, spec.action_kind),
        ("action_choices", choices, spec.action_choices),
    ):
        if of_space != stated:
            raise WrongValueError(
                f"{type(model).__name__}.spec.{what} is {stated!r}, but its space has {of_space!r}; "
                "build the model for the space that its spec names"
            )
