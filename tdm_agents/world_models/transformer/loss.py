"""The loss of a batch of tokens: of next tokens or, where steps are whole, of next steps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tdm_agents.world_models.transformer.network import TransformerNetwork
from tdm_agents.world_models.transformer.operations import negative_log_likelihood
from tdm_agents.world_models.transformer.token_batch import IGNORED, TokenBatch


def prediction_loss(network: TransformerNetwork, batch: TokenBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted negative log-likelihood of what a batch predicts, and its parts.

    ``4 R bins`` bytes are kept for the gradient of ``R`` predicted tokens, and twice as many more are needed
    temporarily; ``R <= S``. The network's blocks keep more, about ``4 S (11 d + 4 feedforward)`` bytes each,
    so logits are not cut into chunks.

    Args:
        network: The transformer.
        batch: See :func:`.targets.token_batch`; on the network's device.

    Returns:
        The loss, and detached ``nll_observation``, ``nll_reward``, ``nll_action``, ``nll_alive`` where an
        environment terminates, and ``nll_to_go`` where returns are predicted: each the weighted mean over
        the environments that have it.
    """
    hidden = network(batch.packed, batch.dropout)  # [S, d]
    tokens = batch.tokens
    logits = network.head(hidden.index_select(0, tokens.index))  # [R, bins]
    nll = negative_log_likelihood(logits, tokens.target, batch.choices)  # [R]
    loss = (tokens.weight * nll).sum()
    of_kinds = torch.split(tokens.share * nll.detach(), [count for _, count in batch.kinds])
    metrics = {f"nll_{kind}": of.sum() for (kind, _), of in zip(batch.kinds, of_kinds, strict=True)}
    if (alive := batch.alive) is not None:  # of a micro-batch it may be empty, and then its gradient is 0
        logit = network.alive(hidden.index_select(0, alive.index))[:, 0].float()
        counts = alive.target != IGNORED
        goes_on = (alive.target == 1).float()
        nll = counts * F.binary_cross_entropy_with_logits(logit, goes_on, reduction="none")
        loss = loss + (alive.weight * nll).sum()
        metrics["nll_alive"] = (alive.share * nll.detach()).sum()
    if (to_go := batch.to_go) is not None:
        assert network.returns is not None
        logits = network.returns(hidden.index_select(0, to_go.index))  # [R, bins]
        nll = negative_log_likelihood(logits, to_go.target, None)
        loss = loss + (to_go.weight * nll).sum()
        metrics["nll_to_go"] = (to_go.share * nll.detach()).sum()
    return loss, metrics
