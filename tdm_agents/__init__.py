"""A Gymnasium agent that thinks before it acts.

The names below are imported when first used, so that ``import tdm_agents`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tdm_agents.agent import TDMAgent
    from tdm_agents.evaluation.episodes import evaluate
    from tdm_agents.registry import make_planner
    from tdm_agents.world_models.simulator import SimulatorModel
    from tdm_agents.world_models.transformer.model import TransformerWorldModel
    from tdm_agents.wrappers import RewardFunction

__version__ = "0.1.0"
"""The version of this package; pyproject.toml reads it here."""

__all__ = [
    "RewardFunction",
    "SimulatorModel",
    "TDMAgent",
    "TransformerWorldModel",
    "evaluate",
    "make_planner",
]

_HOMES = {
    "RewardFunction": "tdm_agents.wrappers",
    "SimulatorModel": "tdm_agents.world_models.simulator",
    "TDMAgent": "tdm_agents.agent",
    "TransformerWorldModel": "tdm_agents.world_models.transformer.model",
    "evaluate": "tdm_agents.evaluation.episodes",
    "make_planner": "tdm_agents.registry",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
