"""The loop that every shooting planner shares: sample, clip, imagine, score, refit, remember.

A planner provides two methods: :meth:`ShootingPlanner.first`, the distribution of the first candidates, and
:meth:`ShootingPlanner.weigh`, the weight of each candidate for the next ones.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from tdm_agents.errors import WrongTypeError, WrongValueError
from tdm_agents.protocols import (
    Considered,
    Deadline,
    HasRowBytes,
    ModelSpec,
    Plan,
    Rollout,
    WorldModel,
    rollout,
    tracing_wanted,
)
from tdm_planners.anytime import LEAST_SAMPLES, affordable, candidates_until
from tdm_planners.bounds import within_bounds
from tdm_planners.carry import ShootingCarry, shift
from tdm_planners.distributions import Distribution
from tdm_planners.kept_observations import kept_observations
from tdm_planners.scoring import evaluate, finite_std, refuse_non_finite
from tdm_planners.setting_checks import check_at_least, check_discount, check_types, check_work


@dataclass(frozen=True, kw_only=True)
class ShootingPlanner(ABC):
    """Base class of shooting planners, with their settings and loop.

    An iteration imagines ``num_samples`` candidates per environment in one rollout: kept rows (the best so
    far, over iterations and, with ``warm_start``, over decisions) and fresh samples. ``k`` iterations are
    exactly ``k`` rollouts where ``max_rows`` does not split them. All environments draw from one generator in
    one call, with shapes that do not depend on their memory, so that the reset of one environment does not
    change the draws of another.

    Attributes:
        horizon: ``H``, decisions imagined ahead, at least 1.
        num_samples: ``K``, candidates per environment and iteration, kept rows included; more than the kept
            rows.
        iterations: Rollouts per decision, at least 1.
        discount: Factor per decision on later rewards, in (0, 1].
        num_kept: ``E``, number of best sequences so far that become candidates again (as elites in Pinneri et
            al. 2020); at least 1.
        warm_start: Whether the previous plan, shifted by the decisions executed since, starts the next one.
        max_rows: Candidates of all environments that are imagined at once, in one rollout; None means all.
            This bounds the memory of a decision. The plan is the same up to rounding, unless the model
            samples, which then draws other numbers.
        max_memory: The same bound in GiB, for models that know how much memory a row takes (``HasRowBytes``;
            the transformer does): as many candidates at once as fit beside what they share, at least one.

    Raises:
        TypeError: If a setting is not of its type.
        ValueError: If one is out of its range; the message says what is expected.
    """

    horizon: int = 25
    num_samples: int = 32
    iterations: int = 3
    discount: float = 1.0
    num_kept: int = 1
    warm_start: bool = True
    max_rows: int | None = None
    max_memory: float | None = None

    anytime: ClassVar[bool] = True
    keeps_mean: ClassVar[bool] = False
    """Whether the mean is also a kept row."""

    @property
    def recalls(self) -> bool:
        """Whether kept rows are candidates again."""
        return True

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least("horizon", self.horizon, 1)
        check_at_least("iterations", self.iterations, 1)
        check_at_least("num_kept", self.num_kept, 1)
        check_work(self)
        if self.max_rows is not None:
            check_at_least("max_rows", self.max_rows, 1)
        if self.max_memory is not None and not self.max_memory > 0:
            raise WrongValueError(f"max_memory is {self.max_memory} GiB; expected a number above 0, or None")
        kept = self.num_kept + self.keeps_mean
        if self.num_samples <= kept:
            raise WrongValueError(
                f"num_samples is {self.num_samples}; expected more than the {kept} kept rows, or there is "
                "nothing left to sample: raise num_samples or lower num_kept"
            )
        check_discount(self.discount)

    @abstractmethod
    def first(self, memory: ShootingCarry, spec: ModelSpec) -> Distribution:
        """The distribution of a decision's first candidates, given the memory.

        It has to fit ``spec.action_kind``, as :func:`tdm_planners.distributions.around` does; the loop clips
        continuous samples to [-1, 1].
        """

    @abstractmethod
    def weigh(self, values: Tensor) -> Tensor:
        """Weights ``[B, K]`` of candidates with ``values`` ``[B, K]``; they sum to 1, and are 0 for -inf."""

    @property
    def num_given(self) -> int:
        """Number of sequences that :meth:`given` imagines for each environment."""
        return 0

    def given(
        self,
        model: WorldModel[Any],
        state: Any,
        batch: int,
        generator: torch.Generator,
        deadline: Deadline | None = None,
    ) -> Tensor | None:
        """Sequences ``[B, P, H, m]`` that take the place of the last samples of every iteration; None: none.

        Args:
            model: The world model.
            state: ``B`` rows; stays usable.
            batch: ``B``.
            generator: Of what is drawn, if anything is.
            deadline: When the whole decision has to be there; what does not fit is left out.
        """
        return None

    def smaller(self, samples: int, iterations: int) -> Self:
        """This planner with fewer candidates and iterations; settings that count candidates shrink, too.

        Args:
            samples: Candidates, from more than the kept rows to ``num_samples``.
            iterations: Iterations.
        """
        return replace(self, num_samples=samples, iterations=iterations)

    def update(self, distribution: Distribution, candidates: Tensor, weights: Tensor) -> Distribution:
        """The distribution of the next candidates: by default, the present one refitted to these.

        Args:
            distribution: The distribution of these candidates.
            candidates: ``[B, K, H, m]``, the candidates.
            weights: ``[B, K]``, from :meth:`weigh`.
        """
        return distribution.refit(candidates, weights)

    def choose(
        self,
        distribution: Distribution,
        candidates: Tensor,
        values: Tensor,
        weights: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """The sequence to execute ``[B, H, m]`` and its value ``[B]``: by default, the best candidate.

        Args:
            distribution: The distribution after the last :meth:`update`.
            candidates: ``[B, K, H, m]``, the candidates of the last iteration.
            values: ``[B, K]``, their values, -inf where a candidate is refused.
            weights: ``[B, K]``, from :meth:`weigh`.
            generator: Source of randomness, if anything is drawn.
        """
        return pick(candidates, values, values.argmax(dim=1))

    def init(self, spec: ModelSpec, batch: int) -> ShootingCarry:
        """The memory of ``batch`` environments that have not decided yet."""
        actions = torch.int64 if spec.action_kind == "discrete" else spec.dtype
        shape = (batch, 1 + self.num_kept, self.horizon, spec.action_dim)
        zeros = torch.zeros(shape, device=spec.device, dtype=actions)
        known = torch.zeros(batch, dtype=torch.bool, device=spec.device)
        return ShootingCarry(mean=zeros[:, 0], elites=zeros[:, 1:], known=known)

    @torch.no_grad()
    def plan(
        self,
        model: WorldModel[Any],
        state: Any,
        carry: ShootingCarry,
        *,
        elapsed: Tensor,
        generator: torch.Generator,
        deadline: Deadline | None = None,
    ) -> Plan:
        """Decide for ``B`` environments; see :class:`tdm_agents.protocols.Planner`.

        Before a deadline there are as many candidates and iterations as are expected to fit. An iteration
        for which time runs out is dropped; only of the first, candidates are compared by as many steps as
        were imagined (:class:`tdm_agents.protocols.AnytimePlanner`).

        ``stats`` holds ``non_finite`` (candidates refused), ``transitions`` (imagined), ``value_first`` and
        ``value_best`` (best value of the first and the last iteration, mean over environments),
        ``value_spread`` (standard deviation over the last iteration's candidates) and, after the last update,
        ``sample_std`` (mean standard deviation, for continuous actions) or ``sample_entropy`` (mean entropy
        as a share of that of uniform choices, for discrete ones).

        Raises:
            TypeError: If there is a ``max_memory``, and the model has no ``row_bytes``.
            ValueError: If no candidate of an environment has a finite value, or ``elapsed`` or ``carry`` does
                not fit this batch and horizon.
        """
        self._check(carry, elapsed)
        if deadline is None:
            return self._plan(model, state, carry, elapsed, generator, None)
        return self._fitting(model, state, carry.known.shape[0], deadline)._plan(
            model, state, carry, elapsed, generator, deadline
        )

    def _plan(
        self,
        model: WorldModel[Any],
        state: Any,
        carry: ShootingCarry,
        elapsed: Tensor,
        generator: torch.Generator,
        deadline: Deadline | None,
    ) -> Plan:
        batch, samples = carry.known.shape[0], self.num_samples
        memory = shift(carry, elapsed.to(carry.known.device), warm=self.warm_start)
        distribution = self.first(memory, model.spec)
        given = self.given(model, state, batch, generator, deadline)
        followed = 0 if given is None else given.shape[1]
        transitions = batch * followed * self.horizon
        non_finite, value_first, steps, done = 0, math.nan, self.horizon, 0
        trace: list[Considered] | None = [] if tracing_wanted() else None
        for _ in range(self.iterations):
            drawn = self._candidates(distribution, memory, generator)  # [B, K, H, m]
            if given is not None:
                drawn = torch.cat([drawn[:, : samples - followed], given], dim=1)
            found, made, seen = self._values(model, state, drawn, generator, deadline, first=not done)
            transitions += batch * samples * made
            if found is None:
                break
            candidates, values = drawn, found
            if trace is not None:
                trace.append(Considered(drawn[:, :, :made], found, seen))
            if not done:
                steps = made
            non_finite += refuse_non_finite(values)
            weights = self.weigh(values)  # [B, K]
            distribution = self.update(distribution, candidates, weights)
            elites = values.topk(self.num_kept, dim=1).indices[:, :, None, None]  # [B, E, 1, 1]
            memory = ShootingCarry(
                mean=distribution.centre,
                elites=candidates.gather(1, elites.expand(-1, -1, *candidates.shape[2:])),
                known=torch.ones_like(carry.known),
            )
            if not done:
                value_first = values.amax(dim=1).mean().item()
            done += 1
            if made < self.horizon:
                break
        sequence, value = self.choose(distribution, candidates, values, weights, generator)
        stats = {
            "non_finite": float(non_finite),
            "transitions": float(transitions),
            "value_first": value_first,
            "value_best": values.amax(dim=1).mean().item(),
            "value_spread": finite_std(values).mean().item(),
            **distribution.stats(),
        }
        if deadline is not None:
            stats |= {"samples": float(samples), "iterations": float(done), "steps": float(steps)}
        return Plan(
            action=sequence[:, 0],
            sequence=sequence,
            value=value,
            carry=memory,
            stats=stats,
            trace=None if trace is None else tuple(trace),
        )

    def _values(
        self,
        model: WorldModel[Any],
        state: Any,
        candidates: Tensor,
        generator: torch.Generator,
        deadline: Deadline | None,
        *,
        first: bool,
    ) -> tuple[Tensor | None, int, Tensor | None]:
        """The values ``[B, K]`` of ``candidates`` ``[B, K, H, m]``, by how many steps, and what is kept."""
        keep = tracing_wanted() and model.spec.imagines_observations
        batch, samples = candidates.shape[:2]
        if deadline is not None:
            imagined = candidates_until(
                model, state, candidates, generator=generator, deadline=deadline, first=first
            )
            made = 0 if imagined is None else imagined.reward.shape[1]
            if imagined is None or (made < self.horizon and not first):
                return None, made, None
            values = evaluate(model, imagined, discount=self.discount).view(batch, samples)
            return values, made, kept_observations([imagined], batch) if keep else None
        rows = torch.arange(batch, device=candidates.device).repeat_interleave(samples)
        most = self.rows_at_once(model, state, batch * samples)
        parts: list[Tensor] = []
        rollouts: list[Rollout] = []
        pairs = zip(torch.split(rows, most), torch.split(candidates.flatten(0, 1), most), strict=True)
        for some, actions in pairs:
            imagined = rollout(model, model.take(state, some), actions, generator=generator)
            parts.append(evaluate(model, imagined, discount=self.discount))
            if keep:
                rollouts.append(imagined)
        seen = kept_observations(rollouts, batch) if keep else None
        return torch.cat(parts).view(batch, samples), self.horizon, seen

    def _fitting(self, model: WorldModel[Any], state: Any, batch: int, deadline: Deadline) -> Self:
        """This planner with as many candidates and iterations as fit before a deadline and in memory."""
        least = self.num_kept + self.keeps_mean + LEAST_SAMPLES
        samples, iterations = affordable(
            deadline,
            batch=batch,
            horizon=self.horizon,
            samples=self.num_samples,
            iterations=self.iterations,
            followed=self.num_given,
            least=least,
        )
        at_once = self.rows_at_once(model, state, batch * samples) // batch  # all in one rollout
        samples = min(samples, max(at_once, min(least, self.num_samples)))
        return self.smaller(samples, iterations)

    def rows_at_once(self, model: WorldModel[Any], state: Any, rows: int) -> int:
        """How many of ``rows`` imagined rows ``max_rows`` and ``max_memory`` allow in one rollout.

        Raises:
            TypeError: If there is a ``max_memory``, and the model has no ``row_bytes``.
        """
        most = min(rows, self.max_rows or rows)
        if self.max_memory is None:
            return most
        if not isinstance(model, HasRowBytes):
            raise WrongTypeError(
                f"max_memory is {self.max_memory} GiB, and {type(model).__name__} does not say what a row "
                "takes (it has no row_bytes): set max_rows instead"
            )
        fit = int(self.max_memory * 2**30) // model.row_bytes(state, horizon=self.horizon)
        return max(1, min(most, fit))

    def _candidates(
        self, distribution: Distribution, memory: ShootingCarry, generator: torch.Generator
    ) -> Tensor:
        fresh = within_bounds(distribution.sample(self.num_samples, generator))
        kept = memory.elites
        if not self.recalls:
            return fresh
        if self.keeps_mean:
            kept = torch.cat([memory.mean[:, None], kept], dim=1)
        # drawn for every row and overwritten where a plan is known, so that draws do not depend on it
        known = memory.known[:, None, None, None]
        first = torch.where(known, within_bounds(kept), fresh[:, : kept.shape[1]])
        return torch.cat([first, fresh[:, kept.shape[1] :]], dim=1)

    def _check(self, carry: ShootingCarry, elapsed: Tensor) -> None:
        batch = carry.known.shape[0]
        if elapsed.shape != (batch,):
            raise WrongValueError(
                f"elapsed has shape {tuple(elapsed.shape)}; expected ({batch},), one count per environment "
                "of the carry: init the planner again when the number of environments changes"
            )
        if (found := carry.mean.shape[1]) != self.horizon or carry.elites.shape[1] != self.num_kept:
            raise WrongValueError(
                f"carry holds {carry.elites.shape[1]} sequences of horizon {found}; expected {self.num_kept} "
                f"of {self.horizon}: it is another planner's, so call init on this one"
            )


def pick(candidates: Tensor, values: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Candidate ``index[B]`` of each environment: its sequence ``[B, H, m]`` and its value ``[B]``."""
    every = torch.arange(index.shape[0], device=index.device)
    return candidates[every, index], values[every, index]
