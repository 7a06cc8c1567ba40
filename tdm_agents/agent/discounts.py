"""The discount of a planner on a model whose values were learned with one."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from tdm_agents.agent.agent_files import AgentSettings
from tdm_agents.protocols import Discounts, Planner, WorldModel
from tdm_agents.wrappers import WithValue
from tdm_agents.wrappers.base import Wrapper


def discounted(planner: Planner, model: WorldModel[Any]) -> Planner:
    """The planner with the discount that the model's values were learned with, if they were with one.

    Args:
        planner: Any planner; one without the setting ``discount`` is returned as it is.
        model: The model that is planned with. Of a value that was given to it, that one's discount counts.
    """
    values: Any = model
    while isinstance(values, Wrapper):
        values = values.critic if isinstance(values, WithValue) else values.model
    if not isinstance(values, Discounts) or not is_dataclass(planner) or isinstance(planner, type):
        return planner
    if "discount" not in {f.name for f in fields(planner)}:
        return planner
    if getattr(planner, "objective", "reward") == "likelihood":  # which reads no value, and has no discount
        return planner
    settings: dict[str, Any] = {"discount": round(float(values.discount), 6)}
    chosen: Planner = replace(planner, **settings)
    return chosen


def undecided(settings: AgentSettings) -> AgentSettings:
    """The settings of an agent of several environments, without a discount: the model's own is taken.

    :meth:`tdm_agents.TDMAgent.load` does so, where it binds the agent to one of them.
    """
    kept = {name: value for name, value in settings.planner_settings.items() if name != "discount"}
    return replace(settings, planner_settings=kept)
