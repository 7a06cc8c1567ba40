"""The loss of a batch of windows: of next tokens or, where steps are whole, of next steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tdm_agents.protocols import Batch, Rows
from tdm_agents.world_models.transformer.network import TransformerNetwork
from tdm_agents.world_models.transformer.packing import Windows, pack
from tdm_agents.world_models.transformer.tokenizer import Tokenizer

IGNORED = -100


def step_tokens(tokenizer: Tokenizer, observation: Tensor, reward: Tensor, action: Tensor) -> Tensor:
    """The tokens of whole decision steps.

    Args:
        tokenizer: The environment's tokenizer.
        observation: ``[B, T, n]``.
        reward: ``[B, T]``, NaN where unknown.
        action: ``[B, T, m]``, in [-1, 1] or choices.

    Returns:
        Tokens ``[B, T, n + m + 2]`` int64.
    """
    rewards = tokenizer.encode_reward(reward)[..., None]
    return torch.cat(
        [
            tokenizer.encode_observation(observation),
            rewards,
            torch.full_like(rewards, tokenizer.separator),
            tokenizer.encode_action(action),
        ],
        dim=-1,
    )


def drop_rewards(
    reward: Tensor, most: float, generator: torch.Generator | None, rows: Rows | None = None
) -> Tensor:
    """Replace rewards ``[B, T]`` by NaN (NONE), at a rate of ``most * U(0, 1)`` per window.

    Args:
        reward: The rewards.
        most: Highest rate.
        generator: Source of the draws.
        rows: Which windows of a batch these are, where they are a micro-batch; the draws are the batch's.
    """
    if most == 0.0:
        return reward
    device = reward.device if generator is None else generator.device
    count = reward.shape[0] if rows is None else rows.of
    rate = most * torch.rand((count, 1), generator=generator, device=device, dtype=torch.float32)
    shape = (count, reward.shape[1])
    drop = torch.rand(shape, generator=generator, device=device, dtype=torch.float32) < rate
    drop = drop if rows is None else rows.take(drop)
    return reward.masked_fill(drop.to(reward.device), float("nan"))


def counts_of(batch: Batch, *, whole: bool) -> Tensor:
    """What the loss of a batch divides by, ``[5]`` int64.

    In order: windows, steps whose observation is predicted, rewards that are, actions that are where any is,
    and steps whose end is.

    Args:
        batch: The batch.
        whole: Whether steps are whole (:mod:`.layout`).
    """
    windows = batch.valid.new_full((), len(batch.valid), dtype=torch.int64)
    moved = batch.valid[:, 1:] & batch.acted[:, :-1]
    known = batch.valid & ~batch.reward.isnan()
    if whole:
        masks = [moved, moved & known[:, 1:], batch.acted, moved]
    else:
        masks = [moved, known, batch.acted, batch.valid]
    return torch.stack([windows, *[mask.sum() for mask in masks]])


@dataclass(frozen=True, slots=True)
class Part:
    """The windows of one environment that one forward reads.

    Attributes:
        windows: Tokens to read, with or without dropped rewards.
        batch: The batch that they are tokens of, which gives the targets.
        tokenizer: Tokenizer of the environment.
        terminates: Whether ``alive`` is trained.
    """

    windows: Windows
    batch: Batch
    tokenizer: Tokenizer
    terminates: bool


def next_token_loss(
    network: TransformerNetwork,
    parts: Sequence[Part],
    *,
    action_weight: float,
    counts: Tensor,
    of_batch: tuple[Tensor, Tensor | None] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean negative log-likelihood per predicted token, and its parts.

    The loss of each environment is computed separately. The result is the mean of these losses, weighted by
    the numbers of windows. All environments share one forward.

    Observation scalars are predicted from the second step of a window on, because a change has no meaning at
    the first; rewards wherever they are known; actions wherever one was taken. Where steps are whole
    (:mod:`.layout`), rewards and ends are also predicted from the second step on, and actions never.

    Args:
        network: The transformer.
        parts: One part per environment.
        action_weight: Weight of action tokens.
        counts: ``[P, 5]``, the :func:`counts_of` each part's environment, in the batch that the loss is of.
        of_batch: How many windows that batch has, and how many of environments that terminate, where any
            does; by default those of ``parts``.

    Returns:
        The loss, and detached ``nll_observation``, ``nll_reward``, ``nll_action`` and, where an environment
        terminates, ``nll_alive``: each the weighted mean over the environments that have it.
    """
    order = sorted(range(len(parts)), key=lambda index: parts[index].windows.band)
    parts, counts = [parts[index] for index in order], counts[order]
    hidden = network(pack([part.windows for part in parts]))  # [S, d]
    ending = [index for index, part in enumerate(parts) if part.terminates]
    if of_batch is None:
        of_batch = counts[:, 0].sum(), counts[ending, 0].sum() if ending else None
    windows, windows_ending = of_batch
    share = counts[:, 0].float() / windows  # [P]
    predictions, first = [], 0
    for part in parts:
        predictions.append(_predictions(part, first))
        first += part.windows.tokens.numel()
    total = weight = torch.zeros_like(share)
    metrics: dict[str, Tensor] = {}
    whole = parts[0].windows.layout.whole
    scalars = [(p.windows.layout.observation_dim, 1, p.windows.layout.action_dim) for p in parts]
    predicted = (counts[:, 1:4] * counts.new_tensor(scalars)).clamp(min=1).unbind(1)  # 3 of [P]
    kinds = ("observation", "reward") if whole else ("observation", "reward", "action")
    for kind, count in zip(kinds, predicted, strict=False):
        nll = _summed_nll(network, hidden, [of_part[kind] for of_part in predictions])
        metrics[f"nll_{kind}"] = (share * (nll / count)).sum().detach()
        kind_weight = action_weight if kind == "action" else 1.0
        total, weight = total + kind_weight * nll, weight + kind_weight * count
    loss = (share * (total / weight)).sum()
    if ending and windows_ending is not None:
        read = torch.cat([predictions[index]["reward"].index for index in ending])
        logit = network.alive(hidden.index_select(0, read))[:, 0].float()
        alive = _summed_alive_nll(logit, [_ends(parts[index]) for index in ending])
        of_ending = (share[ending] * (alive / counts[ending, 4].clamp(min=1))).sum()
        metrics["nll_alive"] = (of_ending * windows / windows_ending).detach()
        loss = loss + of_ending
    elif windows_ending is not None:  # all micro-batches of a batch have the same metrics
        metrics["nll_alive"] = torch.zeros_like(share[0])
        # sharded weights need a gradient in every process or in none
        loss = loss + 0.0 * network.alive(hidden[:1]).sum()
    return loss, metrics


@dataclass(frozen=True, slots=True)
class _Predictions:
    """Predicted tokens of one environment and kind: their places and their targets.

    Attributes:
        index: ``[R]``, places in the flat sequence from which they are predicted.
        target: ``[R]``, the tokens; :data:`IGNORED` where nothing is predicted.
        choices: ``[R]``, the number of bins to choose from, or None for all.
    """

    index: Tensor
    target: Tensor
    choices: Tensor | None = None


def _predictions(part: Part, first: int) -> dict[str, _Predictions]:
    """The predictions from the tokens of a part, which begin at ``first``, by kind."""
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
        reward = reward[:, 1:].masked_fill(~moved, IGNORED)
        return {
            "observation": _Predictions(at[:, :-1, :n].flatten(), change.flatten()),
            "reward": _Predictions(at[:, :-1, n + 1].flatten(), reward.flatten()),
        }
    action = tokenizer.encode_action(batch.action).masked_fill(~batch.acted[..., None], IGNORED)
    before = torch.cat([at[:, :-1, -1:], at[:, 1:, : n - 1]], dim=2)
    return {
        "observation": _Predictions(before.flatten(), change.flatten()),
        "reward": _Predictions(at[:, :, n - 1].flatten(), reward.flatten()),
        "action": _Predictions(
            at[:, :, n + 1 : -1].flatten(),
            action.flatten(),
            tokenizer.choices.expand_as(action).flatten() if tokenizer.action_choices else None,
        ),
    }


def _ends(part: Part) -> tuple[Tensor, Tensor]:
    """Whether episodes go on at each step whose reward is predicted, and whether that counts, ``[R]``."""
    batch = part.batch
    if part.windows.layout.whole:
        return batch.alive[:, 1:].flatten(), (batch.valid[:, 1:] & batch.acted[:, :-1]).flatten()
    return batch.alive.flatten(), batch.valid.flatten()


def _summed_nll(network: TransformerNetwork, hidden: Tensor, parts: Sequence[_Predictions]) -> Tensor:
    """The negative log-likelihood of each part's targets, summed over its tokens, ``[P]``.

    ``4 R bins`` bytes are kept for the gradient, and twice as many more are needed temporarily; all kinds
    together have ``R <= S``. The network's blocks keep more, about ``4 S (11 d + 4 feedforward)`` bytes each,
    so logits are not cut into chunks.
    """
    read = hidden.index_select(0, torch.cat([part.index for part in parts]))  # [R, d]
    logits = network.logits(read)  # [R, bins]
    if any(part.choices is not None for part in parts):
        bins = logits.shape[1]
        every = [torch.full_like(p.target, bins) if p.choices is None else p.choices for p in parts]
        beyond = torch.arange(bins, device=logits.device) >= torch.cat(every)[:, None]
        logits = logits.masked_fill(beyond, float("-inf"))
    target = torch.cat([part.target for part in parts])
    nll = F.cross_entropy(logits, target, ignore_index=IGNORED, reduction="none")
    return torch.stack([of_part.sum() for of_part in torch.split(nll, [len(p.target) for p in parts])])


def _summed_alive_nll(logit: Tensor, ends: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The negative log-likelihood of ``alive``, summed over the steps of each part that count, ``[P]``.

    Args:
        logit: ``[R]``, the logits of all steps, part by part.
        ends: The :func:`_ends` of ``P`` parts.
    """
    alive = torch.cat([alive for alive, _ in ends]).float()
    nll = F.binary_cross_entropy_with_logits(logit, alive, reduction="none")
    of_parts = torch.split(nll, [len(counts) for _, counts in ends])
    return torch.stack(
        [(of_part * counts).sum() for of_part, (_, counts) in zip(of_parts, ends, strict=True)]
    )
