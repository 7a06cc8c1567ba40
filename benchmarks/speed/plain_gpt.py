"""A plain transformer, against which training is measured.

It is built like nanoGPT: pre-norm blocks without biases, fused causal attention, learned positions, and
nothing of this package.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdm_agents.world_models.transformer.config import TransformerConfig


class PlainGpt(nn.Module):
    """A transformer with as many weights, in blocks of the same width, heads and number, as a configuration.

    The gated layer's three matrices of ``d f`` become two of ``1.5 d f``.

    Args:
        config: Sizes.
        length: Most tokens per sequence.
    """

    def __init__(self, config: TransformerConfig, length: int) -> None:
        super().__init__()
        vocabulary = config.tokenizer.bins + 2
        self.token = nn.Embedding(vocabulary, config.width)
        self.position = nn.Embedding(length, config.width)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, bias=False)
        self.head = nn.Linear(config.width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """The hidden states ``[B, S, d]`` after tokens ``[B, S]``, normalised."""
        x = self.token(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        hidden: Tensor = self.norm(x)
        return hidden

    def loss(self, tokens: Tensor) -> Tensor:
        """The mean negative log-likelihood of each token of ``[B, S + 1]`` given those before."""
        logits = self.head(self(tokens[:, :-1]))
        return F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())


class _Block(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width, hidden = config.width, 3 * config.feedforward // 2
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.feedforward_norm = nn.LayerNorm(width, bias=False)
        self.feedforward_in = nn.Linear(width, hidden, bias=False)
        self.feedforward_out = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, length, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.attention_out(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.feedforward_out(F.gelu(self.feedforward_in(self.feedforward_norm(x))))  # type: ignore[no-any-return]
