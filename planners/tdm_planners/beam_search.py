"""Beam search: grow many sequences one transition at a time, and keep the best."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import (
    Considered,
    Deadline,
    HasProposal,
    HasValue,
    ModelSpec,
    Plan,
    WorldModel,
    tracing_wanted,
)
from tdm_agents.protocols.values import lived
from tdm_planners.anytime import affordable, held, measure
from tdm_planners.bounds import uniform_actions, within_bounds
from tdm_planners.proposals import require_proposal
from tdm_planners.scoring import finite_std, refuse_non_finite, weighted
from tdm_planners.setting_checks import check_at_least, check_discount, check_types, check_work
from tdm_planners.transitions import Transitions, likely_transitions, require_tokens

Level = Literal["action", "token"]
"""Units by which a beam grows: whole actions, or tokens."""
Expand = Literal["auto", "proposal", "uniform", "every"]
"""Sources of the actions by which a beam grows."""
Objective = Literal["reward", "likelihood"]
"""What the kept sequences are best by."""


@dataclass(frozen=True, slots=True)
class _Beams:
    """``W`` sequences of ``t`` actions per environment, best first.

    Attributes:
        state: The model's state of ``B * W`` rows.
        sequence: ``[B, W, t, m]``, the actions.
        earned: ``[B, W]``, discounted rewards, each by the probability of living to see it.
        score: ``[B, W]``, these plus the value of the last state; -inf where refused. Where the
            likelihood is the objective, both are log-likelihoods.
        survival: ``[B, W]``, the probability that the episode has not ended; 0 or 1 where the model says
            only whether it has.
    """

    state: Any
    sequence: Tensor
    earned: Tensor
    score: Tensor
    survival: Tensor


@dataclass(frozen=True, kw_only=True)
class BeamSearch:
    """Beam search over actions, as the Trajectory Transformer plans (Janner et al. 2021, arXiv:2106.02039).

    At each depth every kept sequence is expanded by several actions, the model steps, and the ``beam_width``
    best are kept. They are ranked by their rewards so far, plus the model's value of the last state if it has
    one (section 3.2 there); without a value the search is greedy. Where a model says how probable it is that
    an episode goes on, both count by the probability of living to see them: else the reward that comes with
    an end would count again and again while the end is uncertain. There is no memory between decisions.

    ``level="action"`` expands by whole actions, all components at once. ``level="token"`` is the paper's way:
    inside a transition it searches the tokens of action, observation and reward (algorithm 1 there). Two
    things differ: outcomes compete only with outcomes of the same action, and actions are drawn unless
    ``stochastic`` is False, because among 1024 bins the neighbours of the likeliest would crowd out all
    others.

    Attributes:
        horizon: ``H``, depth in decisions, at least 1.
        beam_width: Sequences kept at each depth, at least 1.
        num_expand: Number of actions that expand each sequence, at least 1; at the first depth
            ``beam_width * num_expand``. Of equal actions only the first counts.
        level: See above; ``"token"`` needs a model with tokens, such as the transformer.
        expand: For ``level="action"``: ``"proposal"`` samples actions from the model's proposal,
            ``"uniform"`` uniformly, ``"every"`` takes every discrete action. ``"auto"`` means the proposal
            where the model has one, else every action where there are at most ``num_expand``, else uniform.
        stochastic: For ``level="token"``: draw actions with the model's probabilities, no two alike; False
            takes the likeliest actions and draws nothing.
        objective: ``"reward"``, or for ``level="token"`` ``"likelihood"``: the log-probability of all tokens
            of a sequence, by which the paper's planner imitates what the data did (section 3.1 there). It
            reads neither rewards nor values. The likeliest tokens are sought with ``stochastic=False``.
        num_outcomes: For ``level="token"``: likeliest outcomes kept per action, at least 1. With more than
            one the search can choose its luck, as the paper's does: where outcomes are uncertain, values are
            too high.
        nucleus: For ``level="token"``: share of the probability of each action token that is tried,
            likeliest first, in (0, 1]. Below 1 the search keeps to what the data did more often than seldom;
            the authors' code has 0.6 for Hopper.
        discount: Factor per decision on later rewards, in (0, 1].

    Raises:
        TypeError: If a setting is not of its type.
        ValueError: If one is out of its range; the message says what is expected.
    """

    horizon: int = 15
    beam_width: int = 32
    num_expand: int = 4
    level: Level = "action"
    expand: Expand = "auto"
    stochastic: bool = True
    objective: Objective = "reward"
    num_outcomes: int = 1
    nucleus: float = 1.0
    discount: float = 1.0

    anytime: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least("horizon", self.horizon, 1)
        check_at_least("beam_width", self.beam_width, 1)
        check_at_least("num_expand", self.num_expand, 1)
        check_at_least("num_outcomes", self.num_outcomes, 1)
        if not 0.0 < self.nucleus <= 1.0:
            raise WrongValueError(f"nucleus is {self.nucleus}; expected 0 < nucleus <= 1 (1: every token)")
        check_work(self)
        if self.expand not in get_args(Expand):
            raise WrongValueError(f"expand is {self.expand!r}; expected one of {', '.join(get_args(Expand))}")
        if self.level not in get_args(Level):
            raise WrongValueError(f"level is {self.level!r}; expected one of {', '.join(get_args(Level))}")
        if self.objective not in get_args(Objective):
            raise WrongValueError(
                f"objective is {self.objective!r}; expected one of {', '.join(get_args(Objective))}"
            )
        if self.objective == "likelihood" and (self.level != "token" or self.discount != 1.0):
            raise WrongValueError(
                f"objective is 'likelihood', level {self.level!r} and discount {self.discount}; expected "
                "level 'token', whose tokens have likelihoods, and no discount"
            )
        if self.level == "token" and self.expand != "auto":
            raise WrongValueError(
                f"expand is {self.expand!r}, but level is 'token', which finds actions by their tokens; "
                "leave expand out, or set level='action'"
            )
        tokens_only = {"num_outcomes": 1, "stochastic": True, "nucleus": 1.0}
        if self.level == "action":
            for name, default in tokens_only.items():
                if (value := getattr(self, name)) != default:
                    raise WrongValueError(
                        f"{name} is {value}, but level is 'action', which has no such choice; leave it out, "
                        "or set level='token'"
                    )
        check_discount(self.discount)

    @property
    def num_given(self) -> int:
        """Actions of a proposal that expand each sequence, where the model has one."""
        return self.num_expand if self.level == "action" and self.expand in ("auto", "proposal") else 0

    def init(self, spec: ModelSpec, batch: int) -> None:
        """None: nothing is remembered.

        Raises:
            ValueError: If every action is to be tried, and actions are not discrete.
        """
        if self.expand == "every" and spec.action_kind != "discrete":
            raise WrongValueError(
                f"expand is 'every', but the action_space {spec.action_space} is not discrete; "
                "expected 'proposal' or 'uniform'"
            )

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

        Before a deadline the beam is as wide as is expected to fit, and the search as deep as was in time;
        the plan then holds its last action (:class:`tdm_agents.protocols.AnytimePlanner`).

        ``stats`` holds ``non_finite`` (sequences refused), ``transitions`` (imagined), ``value_best`` (mean
        over environments) and ``value_spread`` (standard deviation over the last beams).

        Raises:
            TypeError: If ``expand="proposal"`` and the model has none, or ``level="token"`` and it has no
                tokens.
            ValueError: If no sequence of an environment has a finite value.
        """
        batch = elapsed.shape[0]
        if deadline is None:
            return self._plan(model, state, batch, generator, None)
        width, _ = affordable(
            deadline,
            batch=batch * self._children(model, self.num_expand),
            horizon=self.horizon,
            samples=self.beam_width,
            iterations=1,
            least=1,
        )
        return replace(self, beam_width=width)._plan(model, state, batch, generator, deadline)

    def _plan(
        self,
        model: WorldModel[Any],
        state: Any,
        batch: int,
        generator: torch.Generator,
        deadline: Deadline | None,
    ) -> Plan:
        spec = model.spec
        none = torch.zeros(batch, 1, device=spec.device, dtype=spec.dtype)
        empty = torch.zeros(batch, 1, 0, spec.action_dim, device=spec.device, dtype=spec.dtype)
        beams = _Beams(state, empty, none, none, torch.ones_like(none))
        non_finite = transitions = depth = 0
        while depth < self.horizon:
            # the only sequence of the first depth counts as beam_width of them
            count = self.num_expand * (self.beam_width if depth == 0 else 1)
            rows = beams.score.numel() * self._children(model, count)
            if depth and deadline is not None and not deadline.allows(rows):
                break
            began = 0.0 if deadline is None else deadline.clock()
            grown = self._grown(model, beams, count, generator)
            beams, refused = self._pruned(model, beams, grown)
            if deadline is not None:
                measure(deadline, began, grown.action.flatten(0, 1))
            non_finite += refused
            transitions += grown.action.shape[0] * grown.action.shape[1]
            depth += 1
        sequence, value = held(beams.sequence[:, 0], self.horizon), beams.score[:, 0]
        stats = {
            "non_finite": float(non_finite),
            "transitions": float(transitions),
            "value_best": value.mean().item(),
            "value_spread": finite_std(beams.score).mean().item(),
        }
        if deadline is not None:
            stats |= {"samples": float(self.beam_width), "iterations": 1.0, "steps": float(depth)}
        trace = (Considered(beams.sequence, beams.score),) if tracing_wanted() else None
        return Plan(
            action=sequence[:, 0], sequence=sequence, value=value, carry=None, stats=stats, trace=trace
        )

    def _grown(
        self, model: WorldModel[Any], beams: _Beams, count: int, generator: torch.Generator
    ) -> Transitions:
        """Transitions from the rows of ``beams``, by up to ``count`` actions each."""
        rows = beams.score.numel()
        if self.level == "token":
            tokens = require_tokens(model, self)
            state = model.take(beams.state, torch.arange(rows, device=beams.score.device))
            return likely_transitions(
                tokens,
                model.spec,
                state,
                rows=rows,
                num_actions=count,
                num_outcomes=self.num_outcomes,
                nucleus=self.nucleus,
                generator=generator if self.stochastic else None,
            )
        actions = self._expansions(model, beams, count, generator)
        parents = torch.arange(rows, device=actions.device).repeat_interleave(actions.shape[1])
        state, step = model.step(model.take(beams.state, parents), actions.flatten(0, 1), generator=generator)
        return Transitions(state, actions, step)

    def _expansions(
        self, model: WorldModel[Any], beams: _Beams, count: int, generator: torch.Generator
    ) -> Tensor:
        """Whole actions ``[B * W, E, m]`` by which to expand the rows of ``beams``."""
        spec, rows = model.spec, beams.score.numel()
        if self.expand == "proposal" or (self.expand == "auto" and isinstance(model, HasProposal)):
            proposal = require_proposal(model, self).propose(beams.state, count, generator=generator)
            return within_bounds(proposal.actions)
        if self._tries_every(model):
            choices = [torch.arange(c, device=spec.device) for c in spec.action_choices]
            every = torch.cartesian_prod(*choices).view(-1, spec.action_dim)
            return every.expand(rows, -1, -1)
        return uniform_actions((rows, count, spec.action_dim), spec, generator=generator)

    def _tries_every(self, model: WorldModel[Any]) -> bool:
        """Whether whole actions are not drawn, but all of them tried."""
        if self.expand != "auto":
            return self.expand == "every"
        few = math.prod(model.spec.action_choices) <= self.num_expand
        return model.spec.action_kind == "discrete" and few and not isinstance(model, HasProposal)

    def _children(self, model: WorldModel[Any], count: int) -> int:
        """Transitions by which ``count`` actions expand a sequence."""
        if self.level == "token":
            return count * self.num_outcomes
        return math.prod(model.spec.action_choices) if self._tries_every(model) else count

    def _pruned(self, model: WorldModel[Any], beams: _Beams, grown: Transitions) -> tuple[_Beams, int]:
        """The best ``beam_width`` of ``beams`` grown by transitions, and the number that was refused."""
        batch, width = beams.score.shape
        actions, state, step = grown.action, grown.state, grown.step
        _, count, dim = actions.shape
        parents = torch.arange(batch * width, device=actions.device).repeat_interleave(count)
        depth = beams.sequence.shape[2]
        before = beams.survival.flatten()[parents]
        gain, after = step.reward, before * (step.alive if step.survival is None else step.survival)
        if likely := self.objective == "likelihood":
            assert grown.log_prob is not None  # of tokens
            # an end has no token, and what goes on is not to be less likely for it
            gain, after = grown.log_prob.flatten(), before
        after = lived(after)
        earned = beams.earned.flatten()[parents]
        earned = earned + self.discount**depth * weighted(before, gain)
        score = earned.clone()
        if isinstance(model, HasValue) and not likely:
            score = score + self.discount ** (depth + 1) * weighted(after, model.value(state))
        score = score.view(batch, width * count)
        # refused before, impossible, or after the end of a sequence, where all are alike and one is kept
        child = torch.arange(batch * width * count, device=actions.device) % count
        gone = (beams.score.flatten()[parents] == -math.inf) | ((before == 0.0) & (child > 0))
        gone |= grown.impossible.flatten()
        score.masked_fill_(gone.view_as(score), -math.inf)
        refused = refuse_non_finite(score) - int(gone.sum())
        if self.level == "action":  # copies would crowd other sequences out of the beam
            again = _drawn_before(actions, score.isfinite().view(-1, count))
            score.masked_fill_(again.view_as(score), -math.inf)

        kept = score.topk(min(self.beam_width, width * count), dim=1)  # best first
        rows = kept.indices + width * count * torch.arange(batch, device=actions.device)[:, None]  # [B, W']
        sequence = torch.cat(
            [beams.sequence.flatten(0, 1)[parents].to(actions.dtype), actions.reshape(-1, 1, dim)], dim=1
        )
        chosen = _Beams(
            state=model.take(state, rows.flatten()),
            sequence=sequence[rows],
            earned=earned[rows],
            score=kept.values,
            survival=after[rows],
        )
        return chosen, refused


def _drawn_before(actions: Tensor, counts: Tensor) -> Tensor:
    """Whether each action ``[rows, E, m]`` equals an earlier counted one of its row, ``[rows, E]``."""
    rows, count, dim = actions.shape
    same = counts[:, None, :].expand(rows, count, count)  # [rows, later, earlier]
    for component in range(dim):  # one by one: all at once would take m times the memory
        same = same & (actions[:, :, None, component] == actions[:, None, :, component])
    return same.tril(diagonal=-1).any(dim=-1)
