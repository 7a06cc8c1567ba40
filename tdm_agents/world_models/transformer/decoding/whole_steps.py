"""Decoding of an imagined step whose scalars are all predicted by one forward."""

from __future__ import annotations

import torch
from torch import Tensor

from tdm_agents.protocols import Step
from tdm_agents.world_models.transformer.decoding.decoder import Decoder
from tdm_agents.world_models.transformer.decoding.rows import Rows


def whole_step(decoder: Decoder, rows: Rows, action: Tensor, draws: Tensor | None) -> Step:
    """Feed the present step ``o, r, SEP, a``, and read the next observation, its reward and the end.

    Args:
        decoder: A decoder whose layout has whole steps.
        rows: ``N`` rows, which go on to the next step.
        action: ``[N, m]``, the action of each row.
        draws: Random numbers from :meth:`Decoder.draws`.
    """
    tokenizer, n = decoder.tokenizer, decoder.layout.observation_dim
    seen = tokenizer.encode_observation(rows.observation)
    tokens = torch.cat([seen, decoder.before_action(rows), tokenizer.encode_action(action)], dim=1)
    hidden = decoder.extend(rows, tokens, offset=0, outputs=tokens.shape[1])  # [N, n + m + 2, d]
    rows.advance()
    observation = decoder.read_scalars(rows, hidden[:, :n], slice(0, n), draws)
    return decoder.arrive(rows, observation, hidden[:, n + 1], draws)
