"""What is predicted from where in windows of several environments, and how much it counts.

This is all that :class:`.token_batch.TokenBatch` holds besides what is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Batch
from tdm_agents.world_models.transformer.dropout import Dropout
from tdm_agents.world_models.transformer.packing import Windows, pack
from tdm_agents.world_models.transformer.token_batch import IGNORED, Predictions, TokenBatch
from tdm_agents.world_models.transformer.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Part:
    """The windows of one environment that one forward reads, or of several that have the same tokens.

    Attributes:
        windows: Tokens to read, with or without dropped rewards.
        batch: The batch that they are tokens of, which gives the targets.
        tokenizer: Tokenizer of the environments.
        terminates: Whether ``alive`` is trained.
        sizes: Windows of each environment, in order.
        seeds: Seed of each window's dropout, where there is any.
    """

    windows: Windows
    batch: Batch
    tokenizer: Tokenizer
    terminates: bool
    sizes: tuple[int, ...]
    seeds: Sequence[int] = ()


def counts_of(batch: Batch, *, whole: bool) -> Tensor:
    """What the loss of a batch divides by, of each window, ``[B, 5]`` int64.

    In order: 1, steps whose observation is predicted, rewards that are, actions that are where any is, and
    steps whose end is.

    Args:
        batch: The batch.
        whole: Whether steps are whole (:mod:`.layout`).
    """
    moved = batch.valid[:, 1:] & batch.acted[:, :-1]
    known = batch.valid & ~batch.reward.isnan()
    if whole:
        masks = [moved, moved & known[:, 1:], batch.acted, moved]
    else:
        masks = [moved, known, batch.acted, batch.valid]
    counts = torch.stack([mask.sum(1) for mask in masks], dim=1)
    return F.pad(counts, (1, 0), value=1)


def token_batch(
    parts: Sequence[Part],
    *,
    action_weight: float,
    counts: Tensor,
    of_batch: tuple[Tensor, Tensor | None] | None = None,
    pads: bool = False,
    dropout: float = 0.0,
) -> TokenBatch:
    """The tokens of windows, and weights such that the loss is the mean of the environments' losses.

    The loss of an environment is the mean negative log-likelihood per predicted token. Those of all are
    weighted by their numbers of windows.

    Observation scalars are predicted from the second step of a window on, because a change has no meaning at
    the first; rewards wherever they are known; returns, where the tokenizer has any, at every step; actions
    wherever one was taken. Where steps are whole (:mod:`.layout`), rewards and ends are also predicted from
    the second step on, and actions never.

    Args:
        parts: The windows, of ``E`` environments in all.
        action_weight: Weight of action tokens.
        counts: ``[E, 5]``, the sums of :func:`counts_of` over each environment's windows in the batch that
            the loss is of, in the order of ``parts``.
        of_batch: How many windows that batch has, and how many of environments that terminate, where any
            does; by default those of ``parts``.
        pads: Whether attention shall pad windows to one length; see :class:`.packing.Padding`.
        dropout: Rate of the network's dropout; where it is not 0, parts have seeds.
    """
    parts, counts, ends = _by_band(parts, counts)
    packed = pack([part.windows for part in parts], pads=pads)
    if of_batch is None:
        of_batch = counts[:, 0].sum(), counts[ends, 0].sum() if ends else None
    windows, windows_ending = of_batch
    share = counts[:, 0].float() / windows  # [E]
    layouts = [part.windows.layout for part in parts for _ in part.sizes]
    whole = layouts[0].whole
    scalars = [(of.observation_dim, 1, of.action_dim) for of in layouts]
    predicted = (counts[:, 1:4] * counts.new_tensor(scalars)).clamp(min=1)  # [E, 3]
    kinds = ("observation", "reward") if whole else ("observation", "reward", "action")
    of_kind = torch.tensor([1.0, 1.0, action_weight][: len(kinds)], device=counts.device)
    total = (predicted[:, : len(kinds)] * of_kind).sum(1)  # [E]
    returns = parts[0].tokenizer.to_go is not None
    if returns:  # one per step
        total = total + counts[:, 4]
    rows, first = [], 0
    for part in parts:
        rows.append(_rows(part, first))
        first += part.windows.tokens.numel()
    tokens, sizes = [], []
    for at, kind in enumerate(kinds):
        of_environment = of_kind[at] * share / total, share / predicted[:, at]
        tokens.append(_predictions(parts, [of[kind] for of in rows], of_environment))
        sizes.append((kind, len(tokens[-1].index)))
    alive = None
    if windows_ending is not None:
        ending = [index for index, part in enumerate(parts) if part.terminates]
        of_environment = (
            share[ends] / counts[ends, 4].clamp(min=1),
            counts[ends, 0].float() / windows_ending / counts[ends, 4].clamp(min=1),
        )
        alive = _predictions([parts[i] for i in ending], [rows[i]["alive"] for i in ending], of_environment)
    to_go = None
    if returns:
        of_environment = share / total, share / counts[:, 4].clamp(min=1)
        to_go = _predictions(parts, [of["to_go"] for of in rows], of_environment)
    return TokenBatch(
        packed=packed,
        tokens=Predictions(
            *(torch.cat([getattr(of, field.name) for of in tokens]) for field in fields(Predictions))
        ),
        kinds=tuple(sizes),
        choices=_choices(parts, rows, kinds),
        alive=alive,
        to_go=to_go,
        dropout=_dropout(parts, dropout) if dropout else None,
    )


def environment_counts(part: Part) -> Tensor:
    """The sums of :func:`counts_of` over the windows of each environment of a part, ``[E, 5]``."""
    sums = counts_of(part.batch, whole=part.windows.layout.whole).cumsum(0)
    last = torch.tensor(part.sizes, device=sums.device).cumsum(0) - 1
    return sums[last].diff(dim=0, prepend=sums.new_zeros((1, sums.shape[1])))


def _by_band(parts: Sequence[Part], counts: Tensor) -> tuple[list[Part], Tensor, list[int]]:
    """Parts in the order of their bands, their environments' counts, and which environments terminate."""
    order = sorted(range(len(parts)), key=lambda index: parts[index].windows.band)
    of_parts = torch.split(counts, [len(part.sizes) for part in parts])
    in_order = [parts[index] for index in order]
    terminates = [part.terminates for part in in_order for _ in part.sizes]
    ends = [index for index, terminating in enumerate(terminates) if terminating]
    return in_order, torch.cat([of_parts[index] for index in order]), ends


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is predicted of a part: places ``[B, ...]`` and targets ``[B, ...]``."""

    index: Tensor
    target: Tensor


def _rows(part: Part, first: int) -> dict[str, _Rows]:
    """What is predicted from the tokens of a part, which begin at ``first``, by kind."""
    batch, tokenizer = part.batch, part.tokenizer
    n = part.windows.layout.observation_dim
    tokens = part.windows.tokens
    at = torch.arange(first, first + tokens.numel(), device=tokens.device).view_as(tokens)
    moved = batch.valid[:, 1:] & batch.acted[:, :-1]  # [B, T - 1]
    change = tokenizer.encode_target(batch.observation[:, :-1], batch.observation[:, 1:])
    change = change.masked_fill(~moved[..., None], IGNORED)
    known = batch.valid & ~batch.reward.isnan()
    reward = tokenizer.encode_reward(batch.reward).masked_fill(~known, IGNORED)
    if part.windows.layout.whole:
        end = at[:, :-1, n + 1]
        return {
            "observation": _Rows(at[:, :-1, :n], change),
            "reward": _Rows(end, reward[:, 1:].masked_fill(~moved, IGNORED)),
            "alive": _Rows(end, batch.alive[:, 1:].long().masked_fill(~moved, IGNORED)),
        }
    end = at[:, :, n - 1]
    action = tokenizer.encode_action(batch.action).masked_fill(~batch.acted[..., None], IGNORED)
    found = {
        "observation": _Rows(torch.cat([at[:, :-1, -1:], at[:, 1:, : n - 1]], dim=2), change),
        "reward": _Rows(end, reward),
        "action": _Rows(at[:, :, n + 1 : -1], action),
        "alive": _Rows(end, batch.alive.long().masked_fill(~batch.valid, IGNORED)),
    }
    if tokenizer.to_go is not None:
        if batch.to_go is None:
            raise WrongValueError(
                "the batch has no to_go, but reward_to_go is to be predicted; expected windows of "
                "Trajectories.with_returns(model.return_discount)"
            )
        to_go = tokenizer.to_go.encode(batch.to_go).masked_fill(~batch.valid, IGNORED)
        found["to_go"] = _Rows(end, to_go)
    return found


def _predictions(
    parts: Sequence[Part], rows: Sequence[_Rows], of_environment: tuple[Tensor, Tensor]
) -> Predictions:
    """The rows of one kind of several parts, with the weight and the share of their environments."""
    if not parts:
        device = of_environment[0].device
        none = torch.zeros(0, dtype=torch.int64, device=device)
        nothing = torch.zeros(0, dtype=torch.float32, device=device)
        return Predictions(none, none, nothing, nothing)
    times = [of.index[0].numel() for part, of in zip(parts, rows, strict=True) for _ in part.sizes]
    sizes = [size for part in parts for size in part.sizes]
    each = torch.tensor([a * b for a, b in zip(times, sizes, strict=True)], device=rows[0].index.device)
    weight, share = (value.repeat_interleave(each) for value in of_environment)
    return Predictions(
        index=torch.cat([of.index.flatten() for of in rows]),
        target=torch.cat([of.target.flatten() for of in rows]),
        weight=weight,
        share=share,
    )


def _dropout(parts: Sequence[Part], rate: float) -> Dropout:
    """The dropout of parts that follow each other in the flat sequence."""
    tokens = (part.windows.band.window_tokens for part in parts for _ in part.seeds)
    return Dropout(rate, tuple(seed for part in parts for seed in part.seeds), tuple(tokens))


def _choices(parts: Sequence[Part], rows: Sequence[dict[str, Any]], kinds: Sequence[str]) -> Tensor | None:
    """The number of bins that each predicted token is chosen from, or None for all."""
    if "action" not in kinds or not any(part.tokenizer.action_choices for part in parts):
        return None
    found = []
    for kind in kinds:
        for part, of_part in zip(parts, rows, strict=True):
            target = of_part[kind].target
            if kind == "action" and part.tokenizer.action_choices:
                found.append(part.tokenizer.choices.expand_as(target).flatten())
            else:
                found.append(torch.full_like(target, part.tokenizer.config.bins).flatten())
    return torch.cat(found)
