"""World-model wrappers, which choose at test time what is maximised, proposed and expected.

They work as Gymnasium's wrappers do: each is a world model itself, so they nest in any order.
"""

from tdm_agents.wrappers.base import Observed, Wrapper
from tdm_agents.wrappers.recorded_states import RecordedStates
from tdm_agents.wrappers.reward_function import RewardFunction
from tdm_agents.wrappers.with_proposal import WithProposal
from tdm_agents.wrappers.with_support import WithSupport
from tdm_agents.wrappers.with_value import WithValue
from tdm_agents.wrappers.without_alive import WithoutAlive

__all__ = [
    "Observed",
    "RecordedStates",
    "RewardFunction",
    "WithProposal",
    "WithSupport",
    "WithValue",
    "WithoutAlive",
    "Wrapper",
]
