"""Results of an evaluation: episodes, their costs, and what happened in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

End = Literal["terminated", "truncated", "cut"]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recording:
    """What happened in an episode of ``L`` environment steps and ``D`` plans, for plots.

    Attributes:
        observation: ``[L + 1, n]``, flat.
        action: ``[L, m]``, flat, in the environment's units.
        reward: ``[L]``.
        planned_at: ``[D]`` int64, the environment step of each plan (or call of a policy).
        imagined: ``[D, h, n]``, observations that each plan expected after 1 to ``h`` decisions; ``h`` is 0
            for a policy that imagines nothing.
        value: ``[D]``, what the planner believed each plan was worth; NaN for a policy.
    """

    observation: FloatArray
    action: FloatArray
    reward: FloatArray
    planned_at: npt.NDArray[np.int64]
    imagined: FloatArray
    value: FloatArray


@dataclass(frozen=True, slots=True)
class Episode:
    """One episode and its cost.

    Attributes:
        seed: Seed that was given to ``env.reset``.
        score: The return: the undiscounted sum of the environment's rewards, or of those of the reward
            function that the evaluation was given.
        length: Number of environment steps.
        decisions: Number of actions that were chosen, by a new plan or from an earlier one.
        transitions: Number of imagined transitions: the episode's share of each batched plan.
        milliseconds: Planning time: the episode's share of each batched plan.
        end: ``"terminated"`` or ``"truncated"`` by the environment, or ``"cut"`` at ``max_steps``.
        recording: What happened; None where it was not asked for.
        late: Number of plans that were there after the agent's deadline.
        own: The sum of the environment's own rewards, where ``score`` is of a reward function; else None.
    """

    seed: int
    score: float
    length: int
    decisions: int
    transitions: float
    milliseconds: float
    end: End
    recording: Recording | None = field(default=None, repr=False, compare=False)
    late: int = 0
    own: float | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Episodes of one contestant in one environment.

    Attributes:
        env_id: The environment.
        episodes: The episodes, in the order of the seeds.
        plan_calls: Number of batched calls of the planner.
        non_finite: Number of candidates, over all episodes, that were refused because their value was NaN or
            inf.
    """

    env_id: str
    episodes: tuple[Episode, ...]
    plan_calls: int
    non_finite: int

    @property
    def scores(self) -> list[float]:
        """The returns, in the order of the seeds."""
        return [e.score for e in self.episodes]

    @property
    def decisions(self) -> int:
        """Number of decisions of all episodes."""
        return sum(e.decisions for e in self.episodes)

    @property
    def milliseconds_per_decision(self) -> float:
        """Planning time per decision; episodes that were planned for in one call share its time."""
        return sum(e.milliseconds for e in self.episodes) / max(self.decisions, 1)

    @property
    def transitions_per_decision(self) -> float:
        """Imagined transitions per decision."""
        return sum(e.transitions for e in self.episodes) / max(self.decisions, 1)


def joined(batches: Sequence[Evaluation]) -> Evaluation:
    """Evaluations of one contestant in one environment as one, in their order."""
    return Evaluation(
        env_id=batches[0].env_id,
        episodes=tuple(episode for batch in batches for episode in batch.episodes),
        plan_calls=sum(batch.plan_calls for batch in batches),
        non_finite=sum(batch.non_finite for batch in batches),
    )


@dataclass(frozen=True, slots=True)
class Tick:
    """The progress of an evaluation, after every environment step.

    Attributes:
        steps: Environment steps done, over all batches of episodes; a step of episodes side by side counts
            once.
        total: Expected number of steps; None where the environment does not say when its episodes end.
        running: Number of episodes that are running.
        finished: Number of episodes that are over.
        mean_return: Mean return so far of the episodes that have begun.
        milliseconds_per_decision: Planning time per decision so far.
    """

    steps: int
    total: int | None
    running: int
    finished: int
    mean_return: float
    milliseconds_per_decision: float
