"""Base class of CEM and MPPI: the settings of their distribution, and the sequence that they execute."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Deadline, ModelSpec, WorldModel
from tdm_planners.bounds import within_bounds
from tdm_planners.carry import ShootingCarry
from tdm_planners.distributions import Distribution, around
from tdm_planners.noise import AR1NoiseSettings
from tdm_planners.proposals import follow, require_proposal
from tdm_planners.setting_checks import check_at_least
from tdm_planners.shooting import ShootingPlanner, pick

Execute = Literal["best", "mean", "sample"]
"""The sequence that a planner executes: the best candidate of its last iteration, their weighted mean, or one
drawn in proportion to its weight."""


@dataclass(frozen=True, kw_only=True)
class GaussianPlanner(AR1NoiseSettings, ShootingPlanner):
    """A planner that samples around a mean, weighs the candidates and refits the distribution to them.

    Discrete actions are drawn from a categorical distribution per step and component instead, refitted to
    weighted frequencies; its likeliest choices take the place of the mean. The mean and the best candidates
    so far are candidates of every iteration after an environment's first.

    Attributes:
        initial_std: Standard deviation of the samples in the first iteration of a decision (actions are in
            [-1, 1]); more than 0.
        std_floor: Smallest standard deviation of later iterations, from 0 to ``initial_std``.
        uniform_start: Discrete actions: share of uniform draws around a remembered plan in a decision's first
            iteration, in [0, 1].
        uniform_floor: Discrete actions: share of uniform draws in later iterations, at most
            ``uniform_start``.
        momentum: Share of the old mean and standard deviation (or probabilities) in the new ones, in [0, 1).
        execute: ``"best"``: the best candidate of the last iteration, with its value;
            ``"sample"``: one drawn by weight, with its value; ``"mean"``: the final mean, with the weighted
            mean of the candidates' values as an estimate, because the final mean itself is not imagined.
        explore: Whether that sequence is disturbed as TD-MPC2 does while it collects data
            (arXiv:2310.16828): by noise of the last standard deviation, or, for discrete actions, by a draw
            from the last distribution.
        num_policy: How many of the candidates are the model's own proposal, followed once per decision in
            imagination and sampled; the model needs one if it is more than 0.

    Raises:
        TypeError: If a setting is not of its type.
        ValueError: If one is out of its range; the message says what is expected.
    """

    initial_std: float = 0.7
    std_floor: float = 0.05
    uniform_start: float = 0.5
    uniform_floor: float = 0.05
    momentum: float = 0.0
    execute: Execute = "best"
    explore: bool = False
    num_policy: int = 0

    keeps_mean: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.initial_std > 0.0:
            raise WrongValueError(
                f"initial_std is {self.initial_std}; expected more than 0, or nothing is explored"
            )
        if not 0.0 <= self.std_floor <= self.initial_std:
            raise WrongValueError(
                f"std_floor is {self.std_floor}; expected 0 <= std_floor <= initial_std ({self.initial_std})"
            )
        if not 0.0 <= self.uniform_floor <= self.uniform_start <= 1.0:
            raise WrongValueError(
                f"uniform_floor is {self.uniform_floor} and uniform_start {self.uniform_start}; expected "
                "0 <= uniform_floor <= uniform_start <= 1"
            )
        if not 0.0 <= self.momentum < 1.0:
            raise WrongValueError(f"momentum is {self.momentum}; expected 0 (none) <= momentum < 1")
        self.check_noise(self.horizon)
        if self.execute not in get_args(Execute):
            raise WrongValueError(
                f"execute is {self.execute!r}; expected one of {', '.join(get_args(Execute))}"
            )

        check_at_least("num_policy", self.num_policy, 0)
        if self._num_recalled + self.num_policy >= self.num_samples:
            raise WrongValueError(
                f"num_policy is {self.num_policy}; expected less than the "
                f"{self.num_samples - self._num_recalled} of "
                "num_samples that are not kept rows, or there is nothing left to sample"
            )

    @property
    def _num_recalled(self) -> int:
        """Candidates that are kept rows."""
        return self.num_kept + self.keeps_mean if self.recalls else 0

    def fewer_policy(self, samples: int) -> int:
        """``num_policy`` for so many candidates: in proportion, and leaving one to sample."""
        fewer = self.num_policy * samples // self.num_samples
        return max(0, min(fewer, samples - self._num_recalled - 1))

    @property
    def num_given(self) -> int:
        """``num_policy``."""
        return self.num_policy

    def given(
        self,
        model: WorldModel[Any],
        state: Any,
        batch: int,
        generator: torch.Generator,
        deadline: Deadline | None = None,
    ) -> Tensor | None:
        """``num_policy`` sequences that follow the model's proposal, ``[B, P, H, m]``, if there is time.

        Raises:
            TypeError: If the model has no proposal.
        """
        if not self.num_policy:
            return None
        if deadline is not None and not deadline.allows(batch * self.num_policy, self.horizon):
            return None
        proposer = require_proposal(model, self)

        def act(rows: Any, t: int) -> Tensor:
            return within_bounds(proposer.propose(rows, 1, generator=generator).actions[:, 0])

        every = torch.arange(batch, device=model.spec.device).repeat_interleave(self.num_policy)
        parts = torch.split(every, self.rows_at_once(model, state, len(every)))
        sequences = []
        for rows in parts:
            started = model.take(state, rows)
            followed, _ = follow(model, started, act, self.horizon, generator=generator, deadline=deadline)
            if followed.shape[1] < self.horizon:
                return None
            sequences.append(followed)
        return torch.cat(sequences).reshape(batch, self.num_policy, self.horizon, -1)

    def first(self, memory: ShootingCarry, spec: ModelSpec) -> Distribution:
        """A wide distribution (``initial_std``, ``uniform_start``) around the remembered plan."""
        return around(
            memory,
            spec,
            std=self.initial_std,
            std_floor=self.std_floor,
            uniform_start=self.uniform_start,
            uniform_floor=self.uniform_floor,
            momentum=self.momentum,
            noise=self.noise,
        )

    def choose(
        self,
        distribution: Distribution,
        candidates: Tensor,
        values: Tensor,
        weights: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """The sequence that ``execute`` names, disturbed if ``explore`` says so; and its value."""
        if self.execute == "mean":
            value = (weights * values.masked_fill(values == -math.inf, 0.0)).sum(dim=1)
            sequence = distribution.centre
        elif self.execute == "sample":
            drawn = torch.multinomial(weights, 1, generator=generator).squeeze(1)
            sequence, value = pick(candidates, values, drawn)
        else:
            sequence, value = super().choose(distribution, candidates, values, weights, generator)
        return (distribution.disturbed(sequence, generator) if self.explore else sequence), value
