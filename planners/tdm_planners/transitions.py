"""Beam search inside a transition of a model with tokens, for the likeliest transitions or for a sample.

This is algorithm 1 of Janner et al. 2021 (Trajectory Transformer, arXiv:2106.02039), over the tokens of one
transition: of all continuations by one token, the likeliest are kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tdm_agents.errors import WrongTypeError
from tdm_agents.protocols import Draft, HasTokens, ModelSpec, Step, WorldModel, require_observations


@dataclass(frozen=True, slots=True)
class Transitions:
    """``E`` transitions per row of ``N`` rows; those of a row are neighbours.

    Attributes:
        state: The model's state after them, ``N * E`` rows.
        action: ``[N, E, m]``, the actions.
        step: The steps that the actions led to, ``N * E`` rows.
        log_prob: ``[N, E]``, the log-probability of all tokens of each, -inf for an impossible one; None
            where unknown.
    """

    state: Any
    action: Tensor
    step: Step
    log_prob: Tensor | None = None

    @property
    def impossible(self) -> Tensor:
        """``[N, E]`` bool."""
        if self.log_prob is None:
            return torch.zeros_like(self.action[..., 0], dtype=torch.bool)
        return self.log_prob == -math.inf


def require_tokens(model: WorldModel[Any], planner: object) -> HasTokens[Any]:
    """The model, typed as one that has tokens.

    Raises:
        TypeError: If it has none; the message names the remedy.
        ValueError: If it imagines no observations, whose tokens would be searched.
    """
    if not isinstance(model, HasTokens):
        raise WrongTypeError(
            f"{type(planner).__name__} searches tokens, and {type(model).__name__} has no draft(): use a "
            "model that has tokens (the transformer does), or level='action'"
        )
    require_observations(model, "a search of tokens", instead="use level='action'")
    return model


def likely_transitions(
    tokens: HasTokens[Any],
    spec: ModelSpec,
    state: Any,
    *,
    rows: int,
    num_actions: int,
    num_outcomes: int = 1,
    nucleus: float = 1.0,
    generator: torch.Generator | None = None,
) -> Transitions:
    """The likeliest (or drawn) actions of each row, and the likeliest outcomes of each action.

    Args:
        tokens: The model.
        spec: Spec of the model.
        state: ``N`` rows; consumed.
        rows: ``N``, the number of rows.
        num_actions: Number of actions kept per row; at most as many as exist, where actions are discrete.
        num_outcomes: Number of outcomes (observation and reward) kept per action; 1 follows the likeliest
            token.
        nucleus: Share of the probability of each token of an action that is tried, likeliest first, in
            (0, 1].
        generator: If given, a row's actions are drawn with the model's probabilities, all different
            (stochastic beam search, Kool et al. 2019, arXiv:1903.06059); None takes the likeliest, in order.
    """
    draft = tokens.draft(state)
    log_prob = rank = torch.zeros(rows, 1, device=spec.device, dtype=spec.dtype)
    for _ in range(spec.action_dim):
        draft, log_prob, rank = _continued(draft, log_prob, rank, num_actions, generator, nucleus)
    log_prob = log_prob.view(-1, 1)  # from here on, each action keeps its own outcomes
    for _ in range(spec.observation_dim + 1):
        draft, log_prob, _ = _continued(draft, log_prob, log_prob, num_outcomes)
    after, action, step = draft.finish()
    return Transitions(after, action.view(rows, -1, spec.action_dim), step, log_prob.view(rows, -1))


def _continued(
    draft: Draft,
    log_prob: Tensor,
    rank: Tensor,
    width: int,
    generator: torch.Generator | None = None,
    nucleus: float = 1.0,
) -> tuple[Draft, Tensor, Tensor]:
    """The ``width`` highest-ranking continuations by one token of each group.

    Args:
        draft: ``G * W`` rows; consumed.
        log_prob: ``[G, W]``, log-probability of the tokens so far.
        rank: ``[G, W]``, the same, or the perturbed log-probabilities by which these were kept.
        width: Number of continuations kept per group.
        generator: Source of randomness of the perturbation; None ranks by log-probability.
        nucleus: Share of each row's probability that is tried.

    Returns:
        The drafts, ``G * W'`` rows, their log-probabilities and their ranks ``[G, W']``, highest first.
    """
    groups, beams = log_prob.shape
    following = draft.log_probs()  # [G W, V]
    # a token whose probability is NaN is not a candidate, though topk would take it for the likeliest
    following = torch.where(following.isnan(), -math.inf, following)
    if nucleus < 1.0:
        following = _in_nucleus(following, nucleus)
    total = log_prob.view(-1, 1) + following
    ranks = total if generator is None else _perturbed(total, rank.view(-1, 1), generator)
    count = total.shape[1]
    kept = ranks.view(groups, -1).topk(min(width, beams * count), dim=1)
    parents = kept.indices // count + beams * torch.arange(groups, device=total.device)[:, None]
    token = kept.indices % count
    if parents.numel() > groups or beams > 1:  # otherwise every row stays in place, and nothing is copied
        draft = draft.take(parents.flatten())
    return draft.push(token.flatten()), total.view(groups, -1).gather(1, kept.indices), kept.values


def _in_nucleus(log_prob: Tensor, nucleus: float) -> Tensor:
    """``log_prob[R, V]``, -inf beyond the likeliest tokens whose probabilities sum to at least ``nucleus``.

    The likeliest token always stays (Holtzman et al. 2020, arXiv:1904.09751, section 3.1).
    """
    ordered, index = log_prob.sort(dim=1, descending=True)
    before = ordered.exp().cumsum(dim=1).roll(1, dims=1)
    before[:, 0] = 0.0
    beyond = torch.zeros_like(before, dtype=torch.bool).scatter_(1, index, before >= nucleus)
    return log_prob.masked_fill(beyond, -math.inf)


def _perturbed(log_prob: Tensor, most: Tensor, generator: torch.Generator) -> Tensor:
    """``log_prob[R, V]`` plus Gumbel noise, conditioned on the largest sum of each row being ``most[R, 1]``.

    The largest such sums are a sample without replacement, and the condition makes it one of whole sequences
    (Kool et al. 2019, section 4.1; this is the numerically stable form of appendix B.3).
    """
    noise = torch.empty_like(log_prob).exponential_(generator=generator).log()
    free = log_prob - noise
    gap = most - free + torch.log(-torch.expm1(free - free.amax(dim=1, keepdim=True)))
    conditioned = most - gap.clamp_min(0.0) - torch.log1p(torch.exp(-gap.abs()))
    return torch.where(log_prob == -math.inf, -math.inf, conditioned)
