"""Settings of updates, apart from the contract that uses them, so that reading options imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tdm_agents.errors import WrongValueError


@dataclass(frozen=True, slots=True)
class UpdateSettings:
    """Settings of an update: AdamW with a warmup and half a cosine.

    A model with optimizers of its own reads those it needs.

    Attributes:
        steps: Number of updates in all.
        learning_rate: Highest learning rate, reached after the warmup.
        warmup_steps: Updates over which the learning rate rises linearly from 0.
        final_learning_rate_fraction: Learning rate of the last step, as a fraction of the highest.
        weight_decay: Decoupled weight decay (AdamW), applied to matrices only.
        betas: Decay of AdamW's first and second moments.
        grad_clip: Largest norm of the gradient over all weights.
        bf16: Compute the loss under bfloat16 autocast; weights and moments stay float32.

    Raises:
        ValueError: If a setting makes no sense.
    """

    steps: int = 3000
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    final_learning_rate_fraction: float = 0.05
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    grad_clip: float = 1.0
    bf16: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise WrongValueError(f"steps is {self.steps}; expected at least 1")
        for name in ("learning_rate", "grad_clip"):
            if not (value := getattr(self, name)) > 0:
                raise WrongValueError(f"{name} is {value}; expected more than 0")
        for name in ("warmup_steps", "weight_decay"):
            if not (value := getattr(self, name)) >= 0:
                raise WrongValueError(f"{name} is {value}; expected at least 0")
        if not 0 <= self.final_learning_rate_fraction <= 1:
            raise WrongValueError(
                f"final_learning_rate_fraction is {self.final_learning_rate_fraction}; expected 0 to 1"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise WrongValueError(f"betas are {self.betas}; expected both at least 0 and below 1")

    def rate(self, step: int) -> float:
        """The learning rate of the update that follows ``step`` updates.

        Linear warmup, then half a cosine (Loshchilov and Hutter, SGDR, arXiv:1608.03983, equation 5, without
        restarts) down to ``final_learning_rate_fraction``.
        """
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - 1 - self.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        floor = self.final_learning_rate_fraction
        return self.learning_rate * (floor + (1 - floor) * cosine)
