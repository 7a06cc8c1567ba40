"""A planner without search, which executes what the model proposes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Considered, Deadline, ModelSpec, Plan, WorldModel, tracing_wanted
from tdm_planners.anytime import held
from tdm_planners.bounds import within_bounds
from tdm_planners.kept_observations import kept_observations
from tdm_planners.proposals import follow, require_proposal
from tdm_planners.scoring import evaluate
from tdm_planners.setting_checks import check_at_least, check_discount, check_types, check_work


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A planner that executes the proposal alone: with a transformer, the TDM paper's behaviour cloning.

    It is the baseline that shows what search adds (arXiv:2305.10912, section 4). Nothing is compared, so no
    value, finite or not, changes what is executed. There is no memory between decisions.

    Attributes:
        horizon: Decisions imagined ahead, at least 1. With 1 nothing is imagined, which is fastest, and the
            plan's value is NaN. With more, the policy is imagined for as many decisions, for the plan's value
            and for plots.
        execute: ``"best"`` for the proposal's mean (or most likely) actions, ``"sample"`` for sampled ones;
            :meth:`tdm_agents.TDMAgent.predict` sets it by ``deterministic``, as a policy of SB3 would.
        discount: Factor per decision on later rewards in the plan's value, in (0, 1].

    Raises:
        TypeError: If a setting is not of its type.
        ValueError: If one is out of its range; the message says what is expected.
    """

    horizon: int = 1
    execute: Literal["best", "sample"] = "best"
    discount: float = 1.0

    anytime: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least("horizon", self.horizon, 1)
        check_work(self)
        if self.execute not in ("best", "sample"):
            raise WrongValueError(f"execute is {self.execute!r}; expected 'best' or 'sample'")
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

        Before a deadline as many steps are imagined as fit, and the plan then holds its last action
        (:class:`tdm_agents.protocols.AnytimePlanner`).

        ``stats`` holds ``non_finite`` (environments whose imagined value is NaN or inf) and ``transitions``.

        Raises:
            TypeError: If the model has no proposal.
        """
        proposer = require_proposal(model, self)
        batch, spec = elapsed.shape[0], model.spec

        def act(rows: Any, t: int) -> Tensor:
            deterministic = self.execute == "best"
            proposal = proposer.propose(rows, 1, generator=generator, deterministic=deterministic)
            return within_bounds(proposal.actions[:, 0])

        if self.horizon == 1:
            action = act(state, 0)
            unknown = torch.full((batch,), math.nan, dtype=spec.dtype, device=spec.device)
            none = {"non_finite": 0.0, "transitions": 0.0}
            return Plan(action=action, sequence=action[:, None], value=unknown, carry=None, stats=none)
        rows = torch.arange(batch, device=spec.device)
        actions, imagined = follow(
            model, model.take(state, rows), act, self.horizon, generator=generator, deadline=deadline
        )
        steps = actions.shape[1]
        value = evaluate(model, imagined, discount=self.discount)
        stats = {
            "non_finite": float((~value.isfinite()).sum()),
            "transitions": float(batch * steps),
        }
        if deadline is not None:
            stats |= {"samples": 1.0, "iterations": 1.0, "steps": float(steps)}
        sequence = held(actions, self.horizon)
        trace = None
        if tracing_wanted():
            trace = (Considered(actions[:, None], value[:, None], kept_observations([imagined], batch)),)
        return Plan(
            action=sequence[:, 0], sequence=sequence, value=value, carry=None, stats=stats, trace=trace
        )
