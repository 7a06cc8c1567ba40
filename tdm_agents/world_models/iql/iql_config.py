"""Settings and presets of implicit Q-learning."""

from __future__ import annotations

from dataclasses import dataclass

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Preset
from tdm_agents.world_models.mlp_config import MLPConfig


@dataclass(frozen=True, slots=True)
class IQLConfig(MLPConfig):
    """Settings of implicit Q-learning: the paper's, and those of the dynamics beside it.

    Attributes:
        iql_hidden: Width of the hidden layers of value, Q and policy, from 1 to 65,536.
        iql_layers: Number of them, from 1 to 1,000.
        iql_rate: Learning rate of value, Q and policy; the policy's falls to 0 as half a cosine.
        expectile: What the value is of the Qs of the data's actions, in (0, 1): 0.5 is their mean, and
            towards 1 it becomes their maximum.
        beta: How much the policy prefers better actions, at least 0: 0 is behaviour cloning.
        discount: Factor per decision on later rewards, in (0, 1). A planner that uses the value should
            discount as much.
        tau: How far the target networks follow at every update, in (0, 1].
        reward_shift: Added to every reward.
        reward_scale: Factor on rewards after that. None: such that the returns of the data span as much as
            their longest episode has decisions, which for the paper's locomotion data is its own scale.

    Raises:
        ValueError: If a setting makes no sense.
    """

    iql_hidden: int = 256
    iql_layers: int = 2
    iql_rate: float = 3e-4
    expectile: float = 0.7
    beta: float = 3.0
    discount: float = 0.99
    tau: float = 0.005
    reward_shift: float = 0.0
    reward_scale: float | None = None

    def __post_init__(self) -> None:
        MLPConfig.__post_init__(self)  # super() does not work in a class with slots
        for name, most in (("iql_hidden", 65_536), ("iql_layers", 1_000)):
            if not 1 <= (value := getattr(self, name)) <= most:
                raise WrongValueError(
                    f"IQLConfig.{name} is {value}; expected at least 1 and at most {most:,}"
                )
        for name in ("expectile", "discount"):
            if not 0.0 < (number := getattr(self, name)) < 1.0:
                raise WrongValueError(f"IQLConfig.{name} is {number}; expected more than 0 and less than 1")
        if not 0.0 < self.tau <= 1.0:
            raise WrongValueError(f"IQLConfig.tau is {self.tau}; expected more than 0, at most 1")
        if not 0.0 <= self.beta < float("inf"):
            raise WrongValueError(f"IQLConfig.beta is {self.beta}; expected a finite number of at least 0")
        if not self.iql_rate > 0.0:
            raise WrongValueError(f"IQLConfig.iql_rate is {self.iql_rate}; expected more than 0")
        if self.reward_scale is not None and not 0.0 < self.reward_scale < float("inf"):
            raise WrongValueError(
                f"IQLConfig.reward_scale is {self.reward_scale}; expected more than 0, or None"
            )
        if not abs(self.reward_shift) < float("inf"):
            raise WrongValueError(f"IQLConfig.reward_shift is {self.reward_shift}; expected a finite number")


PRESETS = {
    "locomotion": Preset(IQLConfig(), action_repeat=1, planner="policy"),
    "antmaze": Preset(
        IQLConfig(expectile=0.9, beta=10.0, reward_shift=-1.0, reward_scale=1.0),
        action_repeat=1,
        planner="policy",
    ),
}
"""The paper's settings for dense and for sparse rewards; the agent executes the policy."""
