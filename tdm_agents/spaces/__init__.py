"""Gymnasium spaces and the flat vectors that models see."""

from tdm_agents.spaces.actions import ActionCodec, DiscreteActionCodec, action_codec
from tdm_agents.spaces.observations import FloatArray, ObservationCodec, difference

__all__ = [
    "ActionCodec",
    "DiscreteActionCodec",
    "FloatArray",
    "ObservationCodec",
    "action_codec",
    "difference",
]
