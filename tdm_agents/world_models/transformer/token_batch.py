"""A batch of windows as tokens: what a transformer reads, and what it has to predict from where.

Everything that an update computes besides the network is in it, and was computed from numbers alone
(:mod:`.preparing`, :mod:`.targets`): on a CPU, ahead of time and by other processes, while a GPU makes the
updates before.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from tdm_agents.world_models.transformer.dropout import Dropout
from tdm_agents.world_models.transformer.packing import Packed
from tdm_agents.world_models.transformer.tokenizer import Tokenizer

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predicted numbers of all windows: where from, what, and how much each counts.

    Attributes:
        index: ``[R]``, places in the flat sequence from which they are predicted.
        target: ``[R]``, tokens (:data:`IGNORED` where nothing is predicted), or whether an episode goes on.
        weight: ``[R]``, factor of the negative log-likelihood in the loss.
        share: ``[R]``, its factor in the metric of its kind.
    """

    index: Tensor
    target: Tensor
    weight: Tensor
    share: Tensor

    def to(self, device: torch.device | str) -> Predictions:
        """The same on another device."""
        return Predictions(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """A batch that a transformer learns from.

    Attributes:
        packed: The tokens that it reads.
        tokens: Predicted tokens, kind by kind.
        kinds: The kinds, and how many tokens each has.
        choices: ``[R]``, the number of bins that each predicted token is chosen from; None for all.
        alive: Predicted ends; None where no environment terminates.
        to_go: Predicted returns; None where none are.
        dropout: What the network drops; None for nothing.
    """

    packed: Packed
    tokens: Predictions
    kinds: tuple[tuple[str, int], ...]
    choices: Tensor | None
    alive: Predictions | None
    to_go: Predictions | None = None
    dropout: Dropout | None = None

    def to(self, device: torch.device | str) -> TokenBatch:
        """The same on another device."""
        return replace(
            self,
            packed=self.packed.to(device),
            tokens=self.tokens.to(device),
            choices=None if self.choices is None else self.choices.to(device),
            alive=None if self.alive is None else self.alive.to(device),
            to_go=None if self.to_go is None else self.to_go.to(device),
        )


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
