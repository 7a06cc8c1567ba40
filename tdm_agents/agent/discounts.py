"""The discount of a planner on a model whose values were learned with one."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from tdm_agents.agent.agent_files import AgentSettings
from tdm_agents.protocols import Discounts, Planner, WorldModel


def discounted(planner: Planner, model: WorldModel[Any]) -> Planner:
    """The planner with the discount that the model's values were learned with, if they were with one."""
    if not isinstance(model, Discounts) or not is_dataclass(planner) or isinstance(planner, type):
        return planner
    if "discount" not in {f.name for f in fields(planner)}:
        return planner
    settings: dict[str, Any] = {"discount": round(float(model.discount), 6)}
    chosen: Planner = replace(planner, **settings)
    return chosen


def undecided(settings: AgentSettings) -> AgentSettings:
    """The settings of an agent of several environments, without a discount: the model's own is taken.

    :meth:`tdm_agents.TDMAgent.load` does so, where it binds the agent to one of them.
    """
    kept = {name: value for name, value in settings.planner_settings.items() if name != "discount"}
    return replace(settings, planner_settings=kept)
