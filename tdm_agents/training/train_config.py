"""Settings of a training run: those that enter the updates, and those that only observe them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tdm_agents.errors import WrongValueError
from tdm_agents.update_settings import UpdateSettings


@dataclass(frozen=True, slots=True)
class TrainConfig(UpdateSettings):
    """Settings of :func:`tdm_agents.training.trainer.train`.

    Attributes:
        steps: Number of updates in all.
        learning_rate: Highest learning rate, reached after the warmup.
        warmup_steps: Updates over which the learning rate rises linearly from 0.
        final_learning_rate_fraction: Learning rate of the last step, as a fraction of the highest.
        weight_decay: Decoupled weight decay (AdamW), applied to matrices only.
        betas: Decay of AdamW's first and second moments.
        grad_clip: Largest norm of the gradient over all weights.
        bf16: Compute the loss under bfloat16 autocast; weights and moments stay float32.
        batch_size: Windows per update, or per part of an update where ``accumulate`` is more than 1.
        accumulate: Number of parts that an update reads one after another: the update of a batch that many
            times as large, in the memory of one part. Where several processes train, they share every part.
        window_steps: Decisions per window.
        seed: Seed of the noise in the loss and of held-out evaluation; the sampler has its own seed.
        threads: PyTorch's threads on the CPU. A resumed run is bit-equal only with the same number.
        readers: Processes that read batches ahead, so that a GPU does not wait for them; 0 reads each when it
            is needed.
        log_every: Steps between points of the training curves.
        checkpoint_every: Steps between checkpoints; one is always written at the end.
        evaluate_every: Steps between evaluations on held-out data; one is always made at the end.
        evaluate_batches: Held-out batches per evaluation.
        evaluate_environments: Most environments that are evaluated; of more, as many, evenly chosen.
        horizons: Numbers of decisions ahead at which the prediction error is reported.
        starts: Number of held-out starting points of the prediction error.
        context_steps: Decisions of history at each starting point, itself included.

    Raises:
        ValueError: If a setting makes no sense.
    """

    batch_size: int = 24
    accumulate: int = 1
    window_steps: int = 12
    seed: int = 0
    threads: int = 1
    readers: int = 0
    log_every: int = 20
    checkpoint_every: int = 500
    evaluate_every: int = 500
    evaluate_batches: int = 16
    evaluate_environments: int = 64
    horizons: tuple[int, ...] = (1, 5, 10, 25)
    starts: int = 64
    context_steps: int = 8

    def __post_init__(self) -> None:
        UpdateSettings.__post_init__(self)  # super() does not work in a dataclass with slots
        counts = (
            "batch_size",
            "accumulate",
            "threads",
            "log_every",
            "checkpoint_every",
            "evaluate_every",
            "evaluate_batches",
            "evaluate_environments",
            "starts",
            "context_steps",
        )
        for name in counts:
            if (count := getattr(self, name)) < 1:
                raise WrongValueError(f"{name} is {count}; expected at least 1")
        if self.window_steps < 2:
            raise WrongValueError(f"window_steps is {self.window_steps}; a transition needs at least 2")
        if self.readers < 0:
            raise WrongValueError(f"readers is {self.readers}; expected at least 0")
        if self.seed < 0:
            raise WrongValueError(f"seed is {self.seed}; expected at least 0")
        if not self.horizons or min(self.horizons) < 1:
            raise WrongValueError(f"horizons are {self.horizons}; expected decisions ahead, at least 1")


OBSERVERS = frozenset(
    {
        "threads",
        "readers",
        "log_every",
        "checkpoint_every",
        "evaluate_every",
        "evaluate_batches",
        "evaluate_environments",
        "horizons",
        "starts",
        "context_steps",
    }
)
"""Settings that may change when a run goes on: they do not affect the updates (threads: only rounding)."""


def noise_seed(seed: int, step: int) -> int:
    """The seed of the noise in the loss of a step, so that no random state needs to be stored."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0])
