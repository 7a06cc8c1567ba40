"""The contracts between world models, planners and the agent: values, and protocols of a few methods."""

from tdm_agents.protocols.batches import Batch, MicroBatches, MixedBatch, Processes, Rows
from tdm_agents.protocols.deadlines import Deadline, Pace
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
from tdm_agents.protocols.learning import (
    Discounts,
    Divides,
    ImitatesExamples,
    NotFiniteError,
    Optimizers,
    Prepares,
    Preset,
    ReadsReturns,
    Suggests,
    TrainableModel,
)
from tdm_agents.protocols.observing import observation_of, reads_images, require_observations
from tdm_agents.protocols.planning import AnytimePlanner, Plan, Planner
from tdm_agents.protocols.traces import Considered, Trace, tracing, tracing_wanted
from tdm_agents.protocols.values import (
    ActionKind,
    History,
    ModelSpec,
    Proposal,
    RewardFn,
    Rollout,
    Step,
)
from tdm_agents.update_settings import UpdateSettings

__all__ = [
    "ActionKind",
    "AnytimePlanner",
    "Batch",
    "Considered",
    "Deadline",
    "Discounts",
    "Divides",
    "Draft",
    "HasOnly",
    "HasProposal",
    "HasRollout",
    "HasRowBytes",
    "HasTokens",
    "HasValue",
    "History",
    "ImitatesExamples",
    "MicroBatches",
    "MixedBatch",
    "ModelSpec",
    "NotFiniteError",
    "Optimizers",
    "Pace",
    "Plan",
    "Planner",
    "Prepares",
    "Preset",
    "Processes",
    "Proposal",
    "ReadsReturns",
    "RewardFn",
    "Rollout",
    "Rows",
    "Step",
    "Suggests",
    "Trace",
    "TrainableModel",
    "UpdateSettings",
    "WorldModel",
    "looped_rollout",
    "observation_of",
    "reads_images",
    "require_observations",
    "rollout",
    "tracing",
    "tracing_wanted",
]
