"""Shooting around a policy: follow a proposal with noise, and execute the best candidate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Considered, Deadline, ModelSpec, Plan, WorldModel, tracing_wanted
from tdm_planners.anytime import affordable, held
from tdm_planners.bounds import uniform_actions, within_bounds
from tdm_planners.kept_observations import kept_observations
from tdm_planners.noise import AR1NoiseSettings
from tdm_planners.proposals import follow, require_proposal
from tdm_planners.scoring import evaluate, finite_std, refuse_non_finite
from tdm_planners.setting_checks import check_at_least, check_discount, check_types, check_work


@dataclass(frozen=True, kw_only=True)
class ProposalShooting(AR1NoiseSettings):
    """The TDM paper's planner with a proposal (arXiv:2305.10912, section 4.1 and figure 5).

    A candidate is imagined in closed loop: at every step the model proposes an action for *this* candidate's
    state, correlated noise is added, and the model steps. The proposal is the model's own (the transformer as
    a behaviour-cloning policy) or a given policy (:class:`tdm_agents.wrappers.WithProposal`). There is no
    memory between decisions.

    Attributes:
        horizon: ``H``, decisions imagined ahead, at least 1.
        num_samples: ``K``, candidates per environment, at least 1.
        num_policy: Number of candidates that follow the proposal without noise, from 0 to ``num_samples``.
        stochastic: Whether to follow actions sampled from the proposal, as the paper does, instead of its
            mean (or most likely) ones.
        noise_scale: Continuous actions: standard deviation of the noise, in units of [-1, 1], at least 0.
        random_share: Discrete actions: probability that a component is drawn uniformly, in [0, 1].
        discount: Factor per decision on later rewards, in (0, 1].

    Raises:
        TypeError: If a setting is not of its type.
        ValueError: If one is out of its range; the message says what is expected.
    """

    horizon: int = 25
    num_samples: int = 64
    num_policy: int = 1
    stochastic: bool = False
    noise_scale: float = 0.3
    random_share: float = 0.2
    discount: float = 1.0

    anytime: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least("horizon", self.horizon, 1)
        check_at_least("num_samples", self.num_samples, 1)
        check_work(self)
        if not 0 <= self.num_policy <= self.num_samples:
            raise WrongValueError(
                f"num_policy is {self.num_policy}; expected at least 0 and at most num_samples, "
                f"which is {self.num_samples}"
            )
        check_at_least("noise_scale", self.noise_scale, 0.0)
        self.check_noise(self.horizon)
        if not 0.0 <= self.random_share <= 1.0:
            raise WrongValueError(f"random_share is {self.random_share}; expected a probability in [0, 1]")
        check_discount(self.discount)

    def init(self, spec: ModelSpec, batch: int) -> None:
        """None: nothing is remembered."""

    @torch.no_grad()
    def plan(
        self,
        model: WorldModel[Any],
        state: Any,
        carry: None,
        *,
        elapsed: Tensor,
        generator: torch.Generator,
        deadline: Deadline | None = None,
    ) -> Plan:
        """Decide for ``B`` environments; see :class:`tdm_agents.protocols.Planner`.

        Before a deadline there are as many candidates as are expected to fit, and candidates are compared by
        as many steps as were imagined; the plan then holds its last action
        (:class:`tdm_agents.protocols.AnytimePlanner`).

        ``stats`` holds ``non_finite``, ``transitions``, ``value_best`` and ``value_spread`` as in
        :meth:`tdm_planners.shooting.ShootingPlanner.plan`, and ``value_policy``, the best value of the rows
        without noise, as a mean over environments (absent if ``num_policy`` is 0).

        Raises:
            TypeError: If the model has no proposal.
            ValueError: If no candidate of an environment has a finite value.
        """
        batch, planner = elapsed.shape[0], self
        if deadline is not None:
            planner = self._fitting(batch, deadline)
        return planner._plan(model, state, batch, generator, deadline)

    def _fitting(self, batch: int, deadline: Deadline) -> ProposalShooting:
        """This planner with as many candidates as fit before a deadline."""
        samples, _ = affordable(
            deadline, batch=batch, horizon=self.horizon, samples=self.num_samples, iterations=1
        )
        # rounded up, so that what follows the proposal without noise never disappears
        undisturbed = -(-self.num_policy * samples // self.num_samples)
        return replace(self, num_samples=samples, num_policy=undisturbed)

    def _plan(
        self,
        model: WorldModel[Any],
        state: Any,
        batch: int,
        generator: torch.Generator,
        deadline: Deadline | None,
    ) -> Plan:
        proposer = require_proposal(model, self)
        samples, spec = self.num_samples, model.spec
        disturb = self._disturbance(spec, batch, generator)

        def act(rows: Any, t: int) -> Tensor:
            proposal = proposer.propose(rows, 1, generator=generator, deterministic=not self.stochastic)
            return within_bounds(disturb(proposal.actions[:, 0], t))

        every = torch.arange(batch, device=spec.device).repeat_interleave(samples)
        actions, imagined = follow(
            model, model.take(state, every), act, self.horizon, generator=generator, deadline=deadline
        )
        steps = actions.shape[1]
        values = evaluate(model, imagined, discount=self.discount).view(batch, samples)
        non_finite = refuse_non_finite(values)
        best = values.argmax(dim=1)  # [B]
        candidates = actions.view(batch, samples, steps, -1)
        sequence = candidates[torch.arange(batch, device=best.device), best]
        value = values.amax(dim=1)
        stats = {
            "non_finite": float(non_finite),
            "transitions": float(batch * samples * steps),
            "value_best": value.mean().item(),
            "value_spread": finite_std(values).mean().item(),
        }
        if self.num_policy:
            stats["value_policy"] = values[:, : self.num_policy].amax(dim=1).mean().item()
        if deadline is not None:
            stats |= {"samples": float(samples), "iterations": 1.0, "steps": float(steps)}
        sequence = held(sequence, self.horizon)
        trace = None
        if tracing_wanted():
            trace = (Considered(candidates, values, kept_observations([imagined], batch)),)
        return Plan(
            action=sequence[:, 0], sequence=sequence, value=value, carry=None, stats=stats, trace=trace
        )

    def _disturbance(self, spec: ModelSpec, batch: int, generator: torch.Generator) -> _Disturbance:
        """The noise of a whole decision, drawn at once."""
        shape = (batch, self.num_samples, self.horizon, spec.action_dim)
        noisy = (torch.arange(self.num_samples, device=spec.device) >= self.num_policy)[:, None, None]
        if spec.action_kind == "discrete":
            draws = torch.rand(shape, generator=generator, device=spec.device, dtype=torch.float32)
            chosen = (draws < self.random_share) & noisy
            return _Disturbance(
                uniform_actions(shape, spec, generator=generator).flatten(0, 1), chosen.flatten(0, 1)
            )
        noise = self.noise(shape, generator, spec.dtype)
        return _Disturbance((self.noise_scale * noise * noisy).flatten(0, 1), None)


@dataclass(frozen=True, slots=True)
class _Disturbance:
    """The noise that is added to proposed actions, or replaces them.

    Attributes:
        draws: ``[N, H, m]``, the draws.
        instead: ``[N, H, m]`` bool, True where draws replace the action; None if they are added to it.
    """

    draws: Tensor
    instead: Tensor | None

    def __call__(self, action: Tensor, t: int) -> Tensor:
        if self.instead is None:
            return action + self.draws[:, t]
        return torch.where(self.instead[:, t], self.draws[:, t], action)
