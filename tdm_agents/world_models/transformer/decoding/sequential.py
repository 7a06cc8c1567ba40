"""The observation scalars of an imagined step, one after another."""

from __future__ import annotations

import torch
from torch import Tensor

from tdm_agents.world_models.transformer.decoding.decoder import Decoder
from tdm_agents.world_models.transformer.decoding.rows import Rows


def sequential(decoder: Decoder, rows: Rows, hidden: Tensor, draws: Tensor | None) -> tuple[Tensor, Tensor]:
    """Read and feed scalar after scalar: ``n`` forwards of one token per row.

    Args:
        decoder: Reads and feeds.
        rows: ``N`` of them, in the step whose observation is written; their observation is the last one.
        hidden: ``[N, d]``, from which the first scalar is read.
        draws: ``[N, n + 2]`` in [0, 1), to sample with; None otherwise.

    Returns:
        The observation ``[N, n]`` in the environment's units, and the hidden state ``[N, d]`` after it.
    """
    scalars = []
    for i in range(decoder.layout.observation_dim):
        scalars.append(decoder.read_scalars(rows, hidden[:, None], slice(i, i + 1), draws))
        token = decoder.tokenizer.encode_observation_scalar(i, scalars[-1])
        hidden = decoder.extend(rows, token, offset=i)[:, 0]
    return torch.cat(scalars, dim=1), hidden
