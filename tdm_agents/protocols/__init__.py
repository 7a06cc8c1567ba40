"""What world models, planners and the agent say to each other: values, and protocols of a few methods."""

from tdm_agents.protocols.imagining import (
    Draft,
    HasOnly,
    HasProposal,
    HasRollout,
    HasRowBytes,
    HasTokens,
    HasValue,
    WorldModel,
    looped_rollout,
    rollout,
)
from tdm_agents.protocols.observing import observation_of, require_observations
from tdm_agents.protocols.planning import Plan, Planner
from tdm_agents.protocols.values import (
    ActionKind,
    History,
    ModelSpec,
    Proposal,
    RewardFn,
    Rollout,
    Step,
)

__all__ = [
    "ActionKind",
    "Draft",
    "HasOnly",
    "HasProposal",
    "HasRollout",
    "HasRowBytes",
    "HasTokens",
    "HasValue",
    "History",
    "ModelSpec",
    "Plan",
    "Planner",
    "Proposal",
    "RewardFn",
    "Rollout",
    "Step",
    "WorldModel",
    "looped_rollout",
    "observation_of",
    "require_observations",
    "rollout",
]
