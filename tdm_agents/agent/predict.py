"""The state that :meth:`tdm_agents.TDMAgent.predict` returns, and what its arguments choose.

``evaluate_policy`` of Stable-Baselines3, and loops over its ``VecEnv``, call only ``predict(obs, state=,
episode_start=, deterministic=)``. The state holds the histories, the planner's memory and the position in the
stream of random numbers, so that a call depends only on its arguments and the agent's seed: evaluations that
take turns with one agent, or with a plain loop, do not affect each other.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

from torch import Tensor

from tdm_agents.agent.memory import AgentMemory
from tdm_agents.errors import WrongTypeError, WrongValueError
from tdm_agents.protocols import Planner


@dataclass(frozen=True, slots=True)
class PredictState:
    """The memory of ``predict`` between two calls: a value that never changes. Hand it back as it is.

    Attributes:
        memory: What is remembered of ``B`` environments.
        random: State of the random generator, as ``torch.Generator.get_state`` returns it.
    """

    memory: AgentMemory
    random: Tensor


def for_determinism(planner: Planner, deterministic: bool) -> Planner:
    """The planner set to execute a sample of its last candidates, or its best (or mean) sequence.

    A planner that has the choice (CEM, MPPI) has a setting ``execute`` of ``"best"``, ``"mean"`` or
    ``"sample"``, formerly called ``returns``. ``deterministic`` keeps ``"best"`` and ``"mean"`` and turns
    ``"sample"`` into ``"best"``; otherwise all become ``"sample"``. A planner without that setting does the
    same in both cases.

    The search itself draws its candidates at random in both cases: only the choice among them is
    deterministic.
    """
    if not is_dataclass(planner) or isinstance(planner, type):
        return planner
    for setting in ("execute", "returns"):
        executed = getattr(planner, setting, None)
        if executed not in ("best", "mean", "sample"):
            continue
        if setting == "returns":
            warnings.warn(
                f"rename the setting 'returns' of {type(planner).__name__} to 'execute'; predict() will not "
                "know the former name in the next release",
                DeprecationWarning,
                stacklevel=2,
            )
        wanted = "sample" if not deterministic else "best" if executed == "sample" else executed
        chosen: Planner = replace(planner, **{setting: wanted})
        return chosen
    return planner


def for_exploration(planner: Planner) -> Planner:
    """The planner set to vary what it executes, as data to learn from need it.

    A planner that can (CEM, MPPI) has a setting ``explore``; others execute a sample where they have the
    choice (:func:`for_determinism`).
    """
    chosen = for_determinism(planner, deterministic=False)
    if is_dataclass(chosen) and not isinstance(chosen, type) and hasattr(chosen, "explore"):
        chosen = replace(chosen, explore=True)
    return chosen


def checked_state(state: Any, rows: int) -> PredictState:
    """A state that an earlier call returned, of as many environments.

    Raises:
        TypeError: If it is anything else.
        ValueError: If it is of another number of environments.
    """
    if not isinstance(state, PredictState):
        raise WrongTypeError(
            f"state is a {type(state).__name__}; expected what the last predict() returned, or None at the "
            "first call"
        )
    if state.memory.batch != rows:
        raise WrongValueError(
            f"state is of {state.memory.batch} environments and the observation of {rows}; pass state=None "
            "to begin with another number of environments"
        )
    return state
