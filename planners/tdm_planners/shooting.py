"""The loop that every shooting planner shares: sample, clip, imagine, score, update, remember.

A planner fills in :meth:`ShootingPlanner.first` (where candidates come from) and
:meth:`ShootingPlanner.weigh` (what the candidates' values say about the next samples).
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tdm_agents.protocols import HasRowBytes, HasValue, ModelSpec, Plan, Rollout, WorldModel, rollout
from tdm_planners.distributions import Distribution

Returns = Literal["best", "mean", "sample"]
"""Which sequence a planner executes: the best candidate of its last iteration, the weighted mean of them, or
one drawn in proportion to its weight."""


@dataclass(frozen=True, slots=True)
class ShootingCarry:
    """What a shooting planner remembers of each environment; every tensor has a leading ``B``.

    Attributes:
        mean: ``[B, H, m]``, centre of the last plan: its mean, or the likeliest choices (int64).
        elites: ``[B, E, H, m]``, its best candidates, best first.
        known: ``[B]`` bool; False where there is no plan yet and the rest is meaningless.
    """

    mean: Tensor
    elites: Tensor
    known: Tensor


@dataclass(frozen=True, slots=True)
class Search:
    """The state of one decision between iterations: the memory, and how widely to sample.

    Attributes:
        memory: What is known of good sequences so far.
        distribution: Of the next samples.
    """

    memory: ShootingCarry
    distribution: Distribution


@dataclass(frozen=True, kw_only=True)
class ShootingPlanner(ABC):
    """Settings and loop that shooting planners share.

    An iteration imagines ``num_samples`` candidates of each environment in one rollout: kept rows (the best
    so far, over iterations and, where warm, over decisions) and fresh samples. ``k`` iterations are exactly
    ``k`` rollouts where ``max_rows`` does not split them. All environments draw from one generator in one
    call, with shapes that do not depend on what they remember, so that one environment's reset does not
    change the draws of another.

    Attributes:
        horizon: ``H``, decisions imagined ahead, at least 1.
        num_samples: ``K``, candidates an environment and iteration, kept rows included; more than these.
        iterations: Rollouts a decision, at least 1.
        discount: Factor a decision on later rewards, in (0, 1].
        num_kept: ``E``, best sequences so far that are candidates again (Pinneri et al. 2020 keep elites); at
            least 1.
        warm_start: Whether the previous plan, shifted by the decisions executed since, starts the next one.
        max_rows: Candidates of all environments that are imagined at once, in one rollout; None = all. Bounds
            the memory of a decision. The plan is the same up to rounding, unless the model samples: it then
            draws other numbers.
        max_memory: The same bound in GiB, for models that know what a row takes (``HasRowBytes``; the
            transformer does): as many candidates at once as fit beside what they share, at least one.

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

    keeps_mean: ClassVar[bool] = False
    """Whether the mean is a kept row too."""

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least("horizon", self.horizon, 1)
        check_at_least("iterations", self.iterations, 1)
        check_at_least("num_kept", self.num_kept, 1)
        if self.max_rows is not None:
            check_at_least("max_rows", self.max_rows, 1)
        if self.max_memory is not None and not self.max_memory > 0:
            raise ValueError(f"max_memory is {self.max_memory} GiB; expected a number above 0, or None")
        kept = self.num_kept + self.keeps_mean
        if self.num_samples <= kept:
            raise ValueError(
                f"num_samples is {self.num_samples}; expected more than the {kept} kept rows, or there is "
                "nothing left to sample: raise num_samples or lower num_kept"
            )
        check_discount(self.discount)

    @abstractmethod
    def weigh(self, values: Tensor) -> Tensor:
        """Weights ``[B, K]`` that sum to 1 over candidates of ``values`` ``[B, K]`` (-inf: weight 0)."""

    @abstractmethod
    def first(self, memory: ShootingCarry, spec: ModelSpec) -> Search:
        """How to search at the first iteration, given what is remembered.

        The distribution has to fit ``spec.action_kind``; continuous samples are clipped to [-1, 1] by the
        loop.
        """

    @abstractmethod
    def update(self, search: Search, candidates: Tensor, weights: Tensor) -> Search:
        """A new distribution, and its centre as the memory's mean. The loop replaces the kept rows.

        Args:
            search: This iteration's.
            candidates: ``[B, K, H, m]``.
            weights: ``[B, K]``, from :meth:`weigh`.
        """

    @abstractmethod
    def choose(
        self, search: Search, candidates: Tensor, values: Tensor, weights: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The sequence to execute ``[B, H, m]`` and its value ``[B]``, after the last iteration.

        Args:
            search: After the last :meth:`update`.
            candidates: ``[B, K, H, m]`` of the last iteration.
            values: ``[B, K]``, -inf where a candidate is refused.
            weights: ``[B, K]``, from :meth:`weigh`.
            generator: Of what is drawn, if anything is.
        """

    def init(self, spec: ModelSpec, batch: int) -> ShootingCarry:
        """Memory of ``batch`` environments that have not decided yet."""
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
    ) -> Plan:
        """Decide for ``B`` environments; see :class:`tdm_agents.protocols.Planner`.

        ``stats``: ``non_finite`` (candidates refused), ``transitions`` (imagined), ``value_first`` and
        ``value_best`` (best value of the first and the last iteration, mean over environments),
        ``value_spread`` (standard deviation over the last iteration's candidates) and, after the last update,
        ``sample_std`` (mean standard deviation, of continuous actions) or ``sample_entropy`` (mean entropy as
        a share of uniform choices', of discrete ones).

        Raises:
            TypeError: If there is a ``max_memory``, and the model has no ``row_bytes``.
            ValueError: If no candidate of an environment has a finite value, or ``elapsed`` or ``carry`` is
                not of this batch and horizon.
        """
        batch, samples = carry.known.shape[0], self.num_samples
        self._check(carry, elapsed)
        search = self.first(shift(carry, elapsed.to(carry.known.device), warm=self.warm_start), model.spec)
        non_finite, value_first = 0, math.nan
        for iteration in range(self.iterations):
            candidates = self._candidates(search, generator)  # [B, K, H, m]
            values = self._values(model, state, candidates, generator)
            non_finite += refuse_non_finite(values)
            weights = self.weigh(values)  # [B, K]
            best = values.topk(self.num_kept, dim=1).indices
            search = self.update(search, candidates, weights)
            memory = ShootingCarry(
                mean=search.memory.mean,
                elites=_pick(candidates, best),
                known=torch.ones_like(carry.known),
            )
            search = replace(search, memory=memory)
            if iteration == 0:
                value_first = values.amax(dim=1).mean().item()
        sequence, value = self.choose(search, candidates, values, weights, generator)
        stats = {
            "non_finite": float(non_finite),
            "transitions": float(batch * samples * self.horizon * self.iterations),
            "value_first": value_first,
            "value_best": values.amax(dim=1).mean().item(),
            "value_spread": finite_std(values).mean().item(),
            **search.distribution.stats(),
        }
        return Plan(action=sequence[:, 0], sequence=sequence, value=value, carry=search.memory, stats=stats)

    def _values(
        self, model: WorldModel[Any], state: Any, candidates: Tensor, generator: torch.Generator
    ) -> Tensor:
        """What ``candidates`` ``[B, K, H, m]`` are worth, ``[B, K]``."""
        batch, samples = candidates.shape[:2]
        rows = torch.arange(batch, device=candidates.device).repeat_interleave(samples)
        most = self._rows_at_once(model, state, batch * samples)
        values = []
        parts = zip(torch.split(rows, most), torch.split(candidates.flatten(0, 1), most), strict=True)
        for some, actions in parts:
            imagined = rollout(model, model.take(state, some), actions, generator=generator)
            values.append(evaluate(model, imagined, discount=self.discount))
        return torch.cat(values).view(batch, samples)

    def _rows_at_once(self, model: WorldModel[Any], state: Any, rows: int) -> int:
        most = min(rows, self.max_rows or rows)
        if self.max_memory is None:
            return most
        if not isinstance(model, HasRowBytes):
            raise TypeError(
                f"max_memory is {self.max_memory} GiB, and {type(model).__name__} does not say what a row "
                "takes (it has no row_bytes): set max_rows instead"
            )
        fit = int(self.max_memory * 2**30) // model.row_bytes(state, horizon=self.horizon)
        return max(1, min(most, fit))

    def _candidates(self, search: Search, generator: torch.Generator) -> Tensor:
        memory = search.memory
        fresh = within_bounds(search.distribution.sample(self.num_samples, generator))
        kept = memory.elites
        if self.keeps_mean:
            kept = torch.cat([memory.mean[:, None], kept], dim=1)
        # drawn for every row and then overwritten where something is known: the draws do not depend on it
        known = memory.known[:, None, None, None]
        first = torch.where(known, within_bounds(kept), fresh[:, : kept.shape[1]])
        return torch.cat([first, fresh[:, kept.shape[1] :]], dim=1)

    def _check(self, carry: ShootingCarry, elapsed: Tensor) -> None:
        batch = carry.known.shape[0]
        if elapsed.shape != (batch,):
            raise ValueError(
                f"elapsed has shape {tuple(elapsed.shape)}; expected ({batch},), one count an environment of "
                "the carry: init the planner again when the number of environments changes"
            )
        if (found := carry.mean.shape[1]) != self.horizon or carry.elites.shape[1] != self.num_kept:
            raise ValueError(
                f"carry holds {carry.elites.shape[1]} sequences of horizon {found}; expected {self.num_kept} "
                f"of {self.horizon}: it is another planner's, so call init on this one"
            )


def shift(carry: ShootingCarry, elapsed: Tensor, *, warm: bool = True) -> ShootingCarry:
    """Move each environment's plan ``elapsed[B]`` decisions ahead; the fresh tail repeats the last action.

    A row forgets its plan where ``elapsed`` is 0 (a new episode) or nothing of the plan is left
    (``elapsed >= H``), and everywhere if not ``warm``.
    """
    horizon = carry.mean.shape[1]
    known = carry.known & (elapsed > 0) & (elapsed < horizon) & warm
    steps = torch.arange(horizon, device=elapsed.device)
    source = (steps + elapsed[:, None]).clamp_max(horizon - 1)  # [B, H]
    plans = torch.cat([carry.mean[:, None], carry.elites], dim=1)  # [B, 1 + E, H, m]
    moved = plans.gather(2, source[:, None, :, None].expand_as(plans))
    moved = moved.masked_fill(~known[:, None, None, None], 0)
    return ShootingCarry(mean=moved[:, 0], elites=moved[:, 1:], known=known)


def evaluate(model: WorldModel[Any], imagined: Rollout, *, discount: float) -> Tensor:
    """Value ``[N]`` of imagined rows: discounted rewards while alive, then the model's own value, if any.

    ``sum_t discount^t (alive before step t) reward_t + discount^H (alive at the end) value(final state)``.

    Args:
        model: What imagined; its ``value`` counts where it has one.
        imagined: ``N`` rows.
        discount: Factor a decision, in (0, 1].
    """
    reward, alive = imagined.reward, imagined.alive  # [N, H]
    before = torch.cat([torch.ones_like(alive[:, :1]), alive[:, :-1]], dim=1)
    powers = discount ** torch.arange(reward.shape[1], device=reward.device, dtype=reward.dtype)
    # where, not a product: what a row does after its end may be NaN, and NaN * 0 is NaN
    value = (torch.where(before, reward, 0.0) * powers).sum(dim=1)
    if isinstance(model, HasValue):
        beyond = torch.where(alive[:, -1], model.value(imagined.state), 0.0)
        value = value + discount ** reward.shape[1] * beyond
    return value


def refuse_non_finite(values: Tensor) -> int:
    """Set NaN and inf in ``values`` ``[B, K]`` to -inf, in place, and count them.

    Raises:
        ValueError: If an environment has no finite value; the message names it.
    """
    bad = ~values.isfinite()
    count = int(bad.sum())
    if count:
        lost = bad.all(dim=1).nonzero().flatten().tolist()
        if lost:
            raise ValueError(
                f"environment {lost[0]} has no candidate with a finite value ({values.shape[1]} of "
                f"{values.shape[1]} are NaN or inf): the model diverges from its present state; check the "
                "observation it was given, shorten the horizon, or train the model on such states"
            )
        values.masked_fill_(bad, -math.inf)
    return count


def within_bounds(actions: Tensor) -> Tensor:
    """Continuous actions clipped to [-1, 1]; discrete ones, which are integers, as they are."""
    return actions.clamp(-1.0, 1.0) if actions.is_floating_point() else actions


def finite_std(values: Tensor) -> Tensor:
    """Standard deviation ``[B]`` over the finite of ``values`` ``[B, K]``; 0 for a single one."""
    finite = values.isfinite()
    count = finite.sum(dim=1).clamp_min(1)
    mean = torch.where(finite, values, 0.0).sum(dim=1) / count
    spread = torch.where(finite, values - mean[:, None], 0.0)
    return (spread.square().sum(dim=1) / count).sqrt()


_TYPES: dict[str, tuple[type, str]] = {
    "int": (numbers.Integral, "an integer, for example 8"),
    "float": (numbers.Real, "a number, for example 0.5"),
    "bool": (bool, "True or False"),
}


def check_types(planner: Any) -> None:
    """Refuse a planner's settings that are not of the ``int``, ``float`` or ``bool`` they are stated as.

    Raises:
        TypeError: Naming the first such setting.
    """
    for setting in fields(planner):
        # text where the planner's module postpones its annotations
        stated = setting.type.__name__ if isinstance(setting.type, type) else str(setting.type)
        name, _, optional = stated.partition(" | ")
        value = getattr(planner, setting.name)
        if name not in _TYPES or (optional == "None" and value is None):
            continue
        kind, expected = _TYPES[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            also = ", or None" if optional else ""
            raise TypeError(
                f"{setting.name} of {type(planner).__name__} is {value!r}; expected {expected}{also}"
            )


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise a ``ValueError`` that names the setting unless ``value >= least``."""
    if not value >= least:
        raise ValueError(f"{name} is {value}; expected at least {least}")


def check_discount(discount: float) -> None:
    """Raise a ``ValueError`` unless ``0 < discount <= 1``."""
    if not 0.0 < discount <= 1.0:
        raise ValueError(f"discount is {discount}; expected 0 < discount <= 1 (1: none)")


def _pick(candidates: Tensor, index: Tensor) -> Tensor:
    """Rows ``index[B, E]`` of ``candidates[B, K, H, m]``."""
    return candidates.gather(1, index[:, :, None, None].expand(-1, -1, *candidates.shape[2:]))
