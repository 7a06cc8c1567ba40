"""Settings of online training: those that make a run what it is, and those that only observe it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tdm_agents.errors import WrongValueError
from tdm_agents.update_settings import UpdateSettings


@dataclass(frozen=True, slots=True)
class OnlineConfig:
    """Settings of :func:`tdm_agents.online.online_trainer.train_online`.

    Attributes:
        steps: Environment steps in all; the episodes under way are played to their end.
        seed: Seed of everything: weights, actions, resets of the environment, order of the data.
        envs: Environments that are played side by side; the next episodes begin when all have ended.
        seed_decisions: Decisions before the model learns anything, which are random unless it is trained
            already; None: 1,000, or five times the decisions of the longest possible episode if they are
            more. None are needed where data are given.
        updates_per_decision: Updates of the model per decision, the random ones included.
        offline_updates: Updates with the given data, before the first decision; None: as many as for
            decisions of the run's own. 0: the data are only remembered.
        batch_size: Windows per update.
        window_steps: Decision steps per window, one more than transitions.
        buffer_size: Decisions that the replay memory holds, the latest ones.
        max_steps: Environment steps after which an episode is cut; None: when the environment ends it, or
            after 10,000 where it sets no limit.
        learning_rate: Constant learning rate of models that have none of their own.
        bf16: Compute the loss under bfloat16 autocast; weights and moments stay float32.
        evaluate_every: Environment steps between evaluations; one is always made at the end.
        evaluate_episodes: Episodes per evaluation, on the same seeds every time.
        checkpoint_every: Decisions and updates, counted together, between checkpoints.
        log_every: Updates between points of the training curves.
        threads: PyTorch's threads on the CPU. A resumed run is bit-equal only with the same number.

    Raises:
        ValueError: If a setting makes no sense.
    """

    steps: int = 100_000
    seed: int = 0
    envs: int = 1
    seed_decisions: int | None = None
    updates_per_decision: float = 1.0
    offline_updates: int | None = None
    batch_size: int = 256
    window_steps: int = 4
    buffer_size: int = 1_000_000
    max_steps: int | None = None
    learning_rate: float = UpdateSettings().learning_rate
    bf16: bool = False
    evaluate_every: int = 20_000
    evaluate_episodes: int = 5
    checkpoint_every: int = 500
    log_every: int = 100
    threads: int = 1

    def __post_init__(self) -> None:
        counts = (
            "steps",
            "envs",
            "seed_decisions",
            "batch_size",
            "buffer_size",
            "max_steps",
            "evaluate_every",
            "evaluate_episodes",
            "checkpoint_every",
            "log_every",
            "threads",
        )
        for name in counts:
            if (count := getattr(self, name)) is not None and count < 1:
                raise WrongValueError(f"{name} is {count}; expected at least 1")
        if self.offline_updates is not None and self.offline_updates < 0:
            raise WrongValueError(f"offline_updates is {self.offline_updates}; expected at least 0")
        if self.window_steps < 2:
            raise WrongValueError(f"window_steps is {self.window_steps}; a transition needs at least 2")
        if self.seed < 0:
            raise WrongValueError(f"seed is {self.seed}; expected at least 0")
        for name in ("updates_per_decision", "learning_rate"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise WrongValueError(f"{name} is {value}; expected more than 0")

    @property
    def update(self) -> UpdateSettings:
        """The settings of an update: the learning rate stays the same, however long the run is."""
        return UpdateSettings(
            learning_rate=self.learning_rate,
            warmup_steps=0,
            final_learning_rate_fraction=1.0,
            bf16=self.bf16,
        )


OBSERVERS = frozenset(
    {
        "steps",
        "evaluate_every",
        "evaluate_episodes",
        "checkpoint_every",
        "log_every",
        "threads",
    }
)
"""Settings that may change when a run goes on: they do not affect the updates (threads: only rounding)."""
