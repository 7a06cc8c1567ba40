"""Next-token loss of a batch of windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tdm_agents.protocols import Batch
from tdm_agents.world_models.transformer.layout import StepLayout
from tdm_agents.world_models.transformer.network import TransformerNetwork
from tdm_agents.world_models.transformer.tokenizer import Tokenizer

IGNORED = -100


def step_tokens(tokenizer: Tokenizer, observation: Tensor, reward: Tensor, action: Tensor) -> Tensor:
    """Tokens of whole decision steps.

    Args:
        tokenizer: The scheme.
        observation: ``[B, T, n]``.
        reward: ``[B, T]``, NaN where unknown.
        action: ``[B, T, m]``, in [-1, 1] or choices.

    Returns:
        ``[B, T, n + m + 2]`` int64.
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


def drop_rewards(reward: Tensor, most: float, generator: torch.Generator | None) -> Tensor:
    """Replace rewards ``[B, T]`` by NaN (NONE) at a rate a window of ``most * U(0, 1)``."""
    if most == 0.0:
        return reward
    device = reward.device if generator is None else generator.device
    rate = most * torch.rand((reward.shape[0], 1), generator=generator, device=device)
    drop = torch.rand(reward.shape, generator=generator, device=device) < rate
    return reward.masked_fill(drop.to(reward.device), float("nan"))


def next_token_loss(
    network: TransformerNetwork,
    tokenizer: Tokenizer,
    layout: StepLayout,
    batch: Batch,
    *,
    inputs: Tensor,
    context_steps: int,
    action_weight: float,
    terminates: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean negative log-likelihood a predicted token, and its parts.

    Observation scalars are predicted from the second step of a window on, because a change has no meaning at
    the first; rewards wherever they are known; actions wherever one was taken.

    Args:
        network: The transformer.
        tokenizer: Gives the targets.
        layout: Of the batch's environment.
        batch: ``B`` windows of ``T`` steps.
        inputs: ``[B, T, n + m + 2]`` tokens, with rewards dropped or not.
        context_steps: Attention band.
        action_weight: Weight of action tokens.
        terminates: Whether ``alive`` is trained.

    Returns:
        The loss, and detached ``nll_observation``, ``nll_reward``, ``nll_action`` (and ``nll_alive``).
    """
    n = layout.observation_dim
    hidden = network(inputs, layout, context_steps)  # [B, T, n + m + 2, d]
    moved = batch.valid[:, 1:] & batch.acted[:, :-1]  # [B, T - 1]
    change = tokenizer.encode_target(batch.observation[:, :-1], batch.observation[:, 1:])
    known = batch.valid & ~batch.reward.isnan()
    observing = torch.cat([hidden[:, :-1, -1:], hidden[:, 1:, : n - 1]], dim=2)  # [B, T - 1, n, d]
    parts = {
        "observation": (observing, change.masked_fill(~moved[..., None], IGNORED), 1.0),
        "reward": (
            hidden[:, :, n - 1],
            tokenizer.encode_reward(batch.reward).masked_fill(~known, IGNORED),
            1.0,
        ),
        "action": (
            hidden[:, :, n + 1 : -1],
            tokenizer.encode_action(batch.action).masked_fill(~batch.acted[..., None], IGNORED),
            action_weight,
        ),
    }
    total = weight = hidden.new_zeros((), dtype=torch.float32)
    metrics: dict[str, Tensor] = {}
    for name, (read, target, part_weight) in parts.items():
        count = (target != IGNORED).sum().clamp(min=1)
        logits = network.logits(read)
        if name == "action":
            logits = tokenizer.mask_actions(logits)
        nll = F.cross_entropy(logits.flatten(0, -2), target.flatten(), ignore_index=IGNORED, reduction="sum")
        metrics[f"nll_{name}"] = (nll / count).detach()
        if part_weight:
            total, weight = total + part_weight * nll, weight + part_weight * count
    loss = total / weight
    if terminates:
        logit = network.alive(hidden[:, :, n - 1])[..., 0].float()
        alive = F.binary_cross_entropy_with_logits(
            logit[batch.valid], batch.alive[batch.valid].float(), reduction="mean"
        )
        metrics["nll_alive"] = alive.detach()
        loss = loss + alive
    return loss, metrics
