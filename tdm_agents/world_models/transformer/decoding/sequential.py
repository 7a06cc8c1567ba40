"""Decoding of the observation scalars of an imagined step one after another."""

from __future__ import annotations

import torch
from torch import Tensor

from tdm_agents.world_models.transformer.decoding.decoder import Decoder
from tdm_agents.world_models.transformer.decoding.rows import Rows


def sequential(decoder: Decoder, rows: Rows, hidden: Tensor, draws: Tensor | None) -> tuple[Tensor, Tensor]:
    """Read and feed one scalar after another: ``n`` forwards of one token per row.

    Args:
        decoder: The decoder that reads and feeds.
        rows: ``N`` rows in the step whose observation is decoded; they hold the previous observation.
        hidden: ``[N, d]``, the hidden state from which the first scalar is read.
        draws: ``[N, n + 2]`` in [0, 1), with which to sample; None otherwise.

    Returns:
        The observation ``[N, n]`` in the environment's units, and the hidden state ``[N, d]`` after it.
    """
    scalars = []
    for i in range(decoder.layout.observation_dim):
        scalars.append(decoder.read_scalars(rows, hidden[:, None], slice(i, i + 1), draws))
        token = decoder.tokenizer.encode_observation_scalar(i, scalars[-1])
        hidden = decoder.extend(rows, token, offset=i)[:, 0]
    return torch.cat(scalars, dim=1), hidden
