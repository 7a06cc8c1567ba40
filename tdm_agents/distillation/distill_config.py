"""Settings of distillation: those that make a run what it is, and those that only observe it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tdm_agents.errors import WrongValueError
from tdm_agents.update_settings import UpdateSettings


@dataclass(frozen=True, slots=True)
class DistillConfig:
    """Settings of :func:`tdm_agents.distillation.distiller.distill`.

    Attributes:
        rounds: Rounds; in each the student is shown episodes, and then learns.
        envs: Episodes per round, played side by side.
        beta: In round ``r``, counted from 0, the teacher's action is executed with probability ``beta ** r``,
            and else the student's (DAgger, arXiv:1011.0686, section 3.1). Whatever is executed, the student
            imitates the teacher. From 0 to 1.
        in_imagination: Whether episodes are played in the teacher's imagination, from first observations of
            the environment, so that nothing is learned from what really happens
            (:mod:`tdm_agents.distillation.imagined_env`).
        imagined: Candidates around each of the teacher's plans whose imagined transitions the dynamics learn,
            too; 0: only what happened.
        imagined_steps: Steps of each, at most the planner's horizon.
        imagined_noise: Standard deviation of what is added to the plan's actions, in units of [-1, 1]; of
            discrete actions, the probability that one is replaced.
        updates: Updates per round.
        batch_size: Windows per update; half of them are examples where the student imitates.
        window_steps: Decision steps per window, one more than transitions.
        learning_rate: Highest learning rate; it falls over all rounds together.
        buffer_size: Decisions that are remembered of each kind, the latest ones.
        max_steps: Environment steps after which an episode is cut; None: when the environment ends it, or
            after 10,000 where it sets no limit.
        seed: Seed of everything: weights, actions, resets of the environment, order of the data.
        evaluate_episodes: Episodes that the student plays after each round, on the same seeds every time.
        log_every: Updates between points of the training curves.
        threads: PyTorch's threads on the CPU. A resumed run is bit-equal only with the same number.

    Raises:
        ValueError: If a setting makes no sense.
    """

    rounds: int = 8
    envs: int = 4
    beta: float = 0.5
    in_imagination: bool = False
    imagined: int = 2
    imagined_steps: int = 5
    imagined_noise: float = 0.3
    updates: int = 2000
    batch_size: int = 256
    window_steps: int = 3
    learning_rate: float = 1e-3
    buffer_size: int = 1_000_000
    max_steps: int | None = None
    seed: int = 0
    evaluate_episodes: int = 5
    log_every: int = 100
    threads: int = 1

    def __post_init__(self) -> None:
        counts = ("rounds", "envs", "imagined_steps", "updates", "batch_size", "buffer_size")
        for name in (*counts, "max_steps", "evaluate_episodes", "log_every", "threads"):
            if (count := getattr(self, name)) is not None and count < 1:
                raise WrongValueError(f"{name} is {count}; expected at least 1")
        if self.window_steps < 2:
            raise WrongValueError(f"window_steps is {self.window_steps}; a transition needs at least 2")
        for name in ("imagined", "seed", "imagined_noise"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise WrongValueError(f"{name} is {value}; expected at least 0")
        if not 0.0 <= self.beta <= 1.0:
            raise WrongValueError(f"beta is {self.beta}; expected a probability in [0, 1]")
        if not 0.0 < self.learning_rate < math.inf:
            raise WrongValueError(f"learning_rate is {self.learning_rate}; expected more than 0")

    @property
    def update(self) -> UpdateSettings:
        """The settings of an update."""
        return UpdateSettings(steps=self.rounds * self.updates, learning_rate=self.learning_rate)


OBSERVERS = frozenset({"evaluate_episodes", "log_every", "threads"})
"""Settings that may change when a run goes on: they do not affect the updates (threads: only rounding)."""
