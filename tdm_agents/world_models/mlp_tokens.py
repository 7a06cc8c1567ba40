"""Tokens around an MLP: embedded as inputs, and as outputs one distribution over bins per scalar.

The tokens are those of the transformer (:mod:`tdm_agents.world_models.transformer.tokenizer`), so that an MLP
and a TDM can be compared with nothing but the network between them.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tdm_agents.world_models.one_step import Transitions
from tdm_agents.world_models.transformer.network import fourier_features
from tdm_agents.world_models.transformer.tokenizer import Tokenizer

Read = Literal["mean", "sample"]
"""How a distribution over bins becomes a number: its mean, or a bin that is drawn from it."""


class TokenTable(nn.Module):
    """A learned vector per token, the same for all scalars; neighbouring bins begin as neighbours.

    Args:
        bins: Number of tokens.
        width: Of a vector.
    """

    def __init__(self, bins: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(fourier_features(bins, width))

    def forward(self, tokenizer: Tokenizer, observation: Tensor, action: Tensor) -> Tensor:
        """Vectors of all scalars in a row, ``[..., (n + m) width]``.

        Args:
            tokenizer: The scheme.
            observation: ``[..., n]``; a NaN or inf, which no token stands for, makes all that follows NaN.
            action: ``[..., m]``.
        """
        finite = observation.isfinite().all(-1, keepdim=True) & action.isfinite().all(-1, keepdim=True)
        action = action.nan_to_num() if action.is_floating_point() else action
        tokens = [tokenizer.encode_observation(observation.nan_to_num()), tokenizer.encode_action(action)]
        vectors = F.embedding(torch.cat(tokens, -1), self.weight).flatten(-2)
        return torch.where(finite, vectors, torch.nan)


def cross_entropies(tokenizer: Tokenizer, logits: Tensor, some: Transitions) -> Tensor:
    """Cross-entropy of every token, ``[R, n + 1]``; that of a reward that is not known means nothing.

    Args:
        tokenizer: The scheme.
        logits: ``[R, n + 1, bins]``, the reward's last.
        some: ``R`` transitions.
    """
    tokens = torch.cat(
        [tokenizer.encode_target(some.now, some.after), tokenizer.encode_reward(some.reward)[:, None]], -1
    )
    return F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view_as(tokens)


def decoded(
    tokenizer: Tokenizer, logits: Tensor, now: Tensor, *, read: Read, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Next observation ``[N, n]`` and reward ``[N]``, float32.

    Args:
        tokenizer: The scheme.
        logits: ``[N, n + 1, bins]``, the reward's last; NaN gives NaN.
        now: ``[N, n]``, before.
        read: How a distribution becomes a number.
        generator: Of samples, drawn for all rows at once.
    """
    if read == "sample":
        uniform = torch.rand(logits.shape, generator=generator, device=logits.device, dtype=torch.float32)
        tokens = (logits - torch.log(-torch.log(uniform.clamp(min=1e-20)))).argmax(-1)  # Gumbel's trick
        lost = logits.isnan().any(-1)  # [N, n+1]
        after = tokenizer.decode_target(now, tokens[:, :-1]).masked_fill(lost[:, :-1], torch.nan)
        return after, tokenizer.decode_reward(tokens[:, -1]).masked_fill(lost[:, -1], torch.nan)
    share = logits.softmax(-1)
    every = torch.arange(logits.shape[-1], device=logits.device)
    column = tokenizer.observation if tokenizer.change is None else tokenizer.change
    centres = column.decode(every[:, None].expand(-1, now.shape[-1])).T  # [n, bins]
    after = torch.einsum("rnb,nb->rn", share[:, :-1], centres)
    after = after if tokenizer.change is None else now.float() + after
    return after, share[:, -1] @ tokenizer.reward_centres()
