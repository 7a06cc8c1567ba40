"""The settings of TD-MPC2, the paper's five sizes, and how to plan with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Preset


@dataclass(frozen=True, slots=True)
class TDMPC2Config:
    """Sizes and training of a :class:`~tdm_agents.world_models.tdmpc2.tdmpc2_model.TDMPC2`; 5M by default.

    The learning rate and the clipping are settings of the model, because the paper's suit every task. A run
    says how the rate rises and falls; the paper's stays the same (``warmup_steps`` 0,
    ``final_learning_rate_fraction`` 1).

    Attributes:
        encoder_width: Width of the encoder's hidden layers.
        encoder_layers: Layers of the encoder, the last one included; at least 2.
        width: Width of the two hidden layers of everything else.
        latent: Scalars of a latent state, a multiple of ``group``.
        group: Scalars of a latent state that sum to 1.
        members: Networks of the value's ensemble, at least 2.
        bins: Bins of rewards and values, at least 2.
        bins_limit: Bins reach from minus this to this, in symlog units; more than 0.
        dropout: In the first layer of the ensemble, in [0, 1).
        horizon: Transitions that the loss imagines; longer windows of data are cut into pieces of as many.
        rho: Weight of each imagined step relative to the step before it, in (0, 1].
        consistency_weight: Weight of the error of latent states.
        reward_weight: Weight of the reward's cross-entropy.
        value_weight: Weight of the value's cross-entropy.
        termination_weight: Weight of the termination's cross-entropy.
        entropy_weight: Weight of the policy's entropy.
        learning_rate: Of Adam, the highest of the run.
        encoder_rate: Learning rate of the encoder, as a share of the others'.
        gradient_clip: Largest norm of a gradient: the model's, and the policy's.
        tau: Share of the way that the target networks go after every update, in (0, 1].
        discount: Factor per decision on later rewards, in (0, 1); None takes it from the length of the
            longest episode in the data.
        bf16: Compute products in bfloat16, in planning and in updates. Meant for processors with
            such products (AMX); others become slower.

    Raises:
        ValueError: If a setting makes no sense.
    """

    encoder_width: int = 256
    encoder_layers: int = 2
    width: int = 512
    latent: int = 512
    group: int = 8
    members: int = 5
    bins: int = 101
    bins_limit: float = 10.0
    dropout: float = 0.01
    horizon: int = 3
    rho: float = 0.5
    consistency_weight: float = 20.0
    reward_weight: float = 0.1
    value_weight: float = 0.1
    termination_weight: float = 1.0
    entropy_weight: float = 1e-4
    learning_rate: float = 3e-4
    encoder_rate: float = 0.3
    gradient_clip: float = 20.0
    tau: float = 0.01
    discount: float | None = None
    bf16: bool = field(default=False, metadata={"identity": False})

    def __post_init__(self) -> None:
        least = {"encoder_width": 1, "encoder_layers": 2, "width": 1, "group": 1, "members": 2, "bins": 2}
        for name, smallest in {**least, "horizon": 1}.items():
            if (value := getattr(self, name)) < smallest:
                raise WrongValueError(f"TDMPC2Config.{name} is {value}; expected at least {smallest}")
        if self.latent < 1 or self.latent % self.group:
            raise WrongValueError(
                f"TDMPC2Config.latent is {self.latent}; expected a multiple of group, which is {self.group}"
            )
        for name in ("bins_limit", "learning_rate", "encoder_rate", "gradient_clip"):
            if not (number := getattr(self, name)) > 0:
                raise WrongValueError(f"TDMPC2Config.{name} is {number}; expected more than 0")
        for name in ("rho", "tau"):
            if not 0 < (number := getattr(self, name)) <= 1:
                raise WrongValueError(f"TDMPC2Config.{name} is {number}; expected more than 0, at most 1")
        for name in ("consistency", "reward", "value", "termination", "entropy"):
            if not (number := getattr(self, f"{name}_weight")) >= 0:
                raise WrongValueError(f"TDMPC2Config.{name}_weight is {number}; expected at least 0")
        if not 0 <= self.dropout < 1:
            raise WrongValueError(f"TDMPC2Config.dropout is {self.dropout}; expected 0 <= dropout < 1")
        if self.discount is not None and not 0 < self.discount < 1:
            raise WrongValueError(
                f"TDMPC2Config.discount is {self.discount}; expected 0 < discount < 1, or None"
            )


SIZES: Mapping[str, TDMPC2Config] = {
    "5m": TDMPC2Config(),
    "1m": TDMPC2Config(width=384, latent=128, members=2),
    "19m": TDMPC2Config(encoder_width=1024, encoder_layers=3, width=1024, latent=768),
    "48m": TDMPC2Config(encoder_width=1792, encoder_layers=4, width=1792, latent=768),
    "317m": TDMPC2Config(encoder_width=4096, encoder_layers=5, width=4096, latent=1376, members=8),
}
"""The paper's sizes by name; those of its single tasks have 5 million weights."""

PLANNER: Mapping[str, Any] = {
    "horizon": 3,
    "num_samples": 512,
    "num_policy": 24,
    "num_elites": 64,
    "iterations": 6,
    "temperature": 2.0,
    "standardise": False,
    "initial_std": 2.0,
    "std_floor": 0.05,
    "noise_alpha": 0.0,
    "candidates_kept": False,
    "execute": "sample",
    "discount": 0.99,
}
"""The paper's planner as settings of ``mppi``; its 0.5 multiplies values, as our 2.0 divides them. From 20
action scalars on it takes 8 iterations, which is for the user to set."""

PRESETS: Mapping[str, Preset] = {
    name: Preset(size, action_repeat=2, planner="mppi", planner_settings=PLANNER)
    for name, size in SIZES.items()
}


def discount_of(steps: int) -> float:
    """The paper's discount of episodes of ``steps`` decisions: a fifth of them is looked ahead."""
    ahead = steps / 5
    return min(max((ahead - 1) / ahead, 0.95), 0.995)
