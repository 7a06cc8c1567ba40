"""World-model wrappers: what is maximised, proposed and expected is chosen at test time.

As Gymnasium wraps environments: each wrapper is a world model itself, so they nest in any order.
"""

from tdm_agents.wrappers.base import Observed, Wrapper
from tdm_agents.wrappers.reward_function import RewardFunction
from tdm_agents.wrappers.with_proposal import WithProposal
from tdm_agents.wrappers.with_value import WithValue
from tdm_agents.wrappers.without_alive import WithoutAlive

__all__ = ["Observed", "RewardFunction", "WithProposal", "WithValue", "WithoutAlive", "Wrapper"]
