"""How a world model is trained: settings, and the learning rate as a function of the step alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Settings of :func:`tdm_agents.training.trainer.train`.

    Attributes:
        steps: Updates in all.
        batch_size: Windows a step.
        window_steps: Decisions a window.
        learning_rate: Highest learning rate, reached after the warmup.
        warmup_steps: Updates over which the learning rate rises linearly from 0.
        final_learning_rate_fraction: Where the cosine ends at the last step, as a fraction of the highest.
        weight_decay: Decoupled decay (AdamW), of matrices only.
        betas: Decay of AdamW's first and second moments.
        grad_clip: Largest norm of the gradient over all weights.
        bf16: Compute the loss under bfloat16 autocast; weights and moments stay float32.
        seed: Of the noise in the loss and of held-out evaluation; data order is the sampler's own.
        threads: PyTorch's threads on the CPU. A resumed run is bit-equal only with the same number.
        log_every: Steps between points of the training curves.
        checkpoint_every: Steps between checkpoints; one is always written at the end.
        evaluate_every: Steps between evaluations on held-out data; one is always made at the end.
        evaluate_batches: Held-out batches of an evaluation.
        horizons: Decisions ahead at which the prediction error is reported.
        starts: Held-out starting points of the prediction error.
        context_steps: Decisions of history in front of each starting point.

    Raises:
        ValueError: If a setting makes no sense.
    """

    steps: int = 3000
    batch_size: int = 24
    window_steps: int = 12
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    final_learning_rate_fraction: float = 0.05
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    grad_clip: float = 1.0
    bf16: bool = False
    seed: int = 0
    threads: int = 1
    log_every: int = 20
    checkpoint_every: int = 500
    evaluate_every: int = 500
    evaluate_batches: int = 16
    horizons: tuple[int, ...] = (1, 5, 10, 25)
    starts: int = 64
    context_steps: int = 8

    def __post_init__(self) -> None:
        counts = (
            "steps",
            "batch_size",
            "threads",
            "log_every",
            "checkpoint_every",
            "evaluate_every",
            "evaluate_batches",
            "starts",
            "context_steps",
        )
        for name in counts:
            if (count := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {count}; expected at least 1")
        if self.window_steps < 2:
            raise ValueError(f"window_steps is {self.window_steps}; a transition needs at least 2")
        for name in ("learning_rate", "grad_clip"):
            if not (value := getattr(self, name)) > 0:
                raise ValueError(f"{name} is {value}; expected more than 0")
        for name in ("warmup_steps", "weight_decay", "seed"):
            if not (value := getattr(self, name)) >= 0:
                raise ValueError(f"{name} is {value}; expected at least 0")
        if not 0 <= self.final_learning_rate_fraction <= 1:
            raise ValueError(
                f"final_learning_rate_fraction is {self.final_learning_rate_fraction}; expected 0 to 1"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are {self.betas}; expected both at least 0 and below 1")
        if not self.horizons or min(self.horizons) < 1:
            raise ValueError(f"horizons are {self.horizons}; expected decisions ahead, at least 1")


OBSERVERS = frozenset(
    {
        "threads",
        "log_every",
        "checkpoint_every",
        "evaluate_every",
        "evaluate_batches",
        "horizons",
        "starts",
        "context_steps",
    }
)
"""Settings that may change when a run goes on: they do not enter the updates (threads only by rounding)."""


def noise_seed(seed: int, step: int) -> int:
    """The seed of the noise in the loss of one step, so that no random state needs to be stored."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0])


def learning_rate(config: TrainConfig, step: int) -> float:
    """The learning rate of the update that follows ``step`` updates.

    Linear warmup, then half a cosine (Loshchilov and Hutter, SGDR, arXiv:1608.03983, equation 5, without
    restarts) down to ``final_learning_rate_fraction``.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - 1 - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    floor = config.final_learning_rate_fraction
    return config.learning_rate * (floor + (1 - floor) * cosine)
