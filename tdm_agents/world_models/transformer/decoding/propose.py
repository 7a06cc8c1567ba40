"""Proposals of the behaviour-cloning policy, which the transformer also is."""

from __future__ import annotations

import torch

from tdm_agents.protocols import Proposal
from tdm_agents.world_models.transformer.decoding.decoder import Decoder
from tdm_agents.world_models.transformer.decoding.reading import choose_bin, mean_near_mode
from tdm_agents.world_models.transformer.decoding.state import TransformerState


@torch.no_grad()
def propose(
    decoder: Decoder,
    state: TransformerState,
    count: int,
    *,
    generator: torch.Generator | None = None,
    deterministic: bool = False,
) -> Proposal:
    """Actions ``(h, o, r) -> a``, component after component; does not consume ``state``.

    Args:
        decoder: The decoder that reads and feeds.
        state: ``N`` rows.
        count: Actions per row.
        generator: Source of randomness.
        deterministic: The likeliest actions instead of drawn ones: the means near the likeliest tokens
            (:attr:`.options.DecodingOptions.action_window`), or these themselves.

    Returns:
        Actions ``[N, count, m]`` and their log-probabilities ``[N, count]``.

    Raises:
        RuntimeError: If ``state`` was consumed.
    """
    tokenizer, layout = decoder.tokenizer, decoder.layout
    rows = torch.arange(state.rows, device=state.reward.device).repeat_interleave(count)
    fork = state.take(rows).consume()
    hidden = decoder.extend(fork, decoder.before_action(fork), offset=layout.observation_dim)[:, 0]
    uniform = None
    if not deterministic:
        uniform = torch.rand(
            (layout.action_dim, len(rows)), generator=generator, device=rows.device, dtype=torch.float32
        )
    window, bins = decoder.action_window if deterministic else None, tokenizer.action
    tokens, means = [], []
    log_prob = torch.zeros(len(rows), device=rows.device, dtype=torch.float32)
    for j in range(layout.action_dim):
        logits = tokenizer.mask_actions(decoder.network.logits(hidden), j)
        if window is None or bins is None:
            tokens.append(choose_bin(logits, None if uniform is None else uniform[j]))
        else:
            means.append(mean_near_mode(logits, bins.centres(j), window))
            tokens.append(bins.encode(means[-1], j))
        log_prob += logits.log_softmax(dim=-1).gather(1, tokens[-1][:, None])[:, 0]
        if j + 1 < layout.action_dim:
            hidden = decoder.extend(fork, tokens[-1][:, None], offset=layout.observation_dim + 2 + j)[:, 0]
    actions = torch.stack(means, dim=1) if means else tokenizer.decode_action(torch.stack(tokens, dim=1))
    return Proposal(actions.view(state.rows, count, -1), log_prob.view(state.rows, count))
