"""The transformer dynamics model, which predicts one token after the other.

A Generalist Dynamics Model for Control (2305.10912): one transformer over trajectory tokens is dynamics
model, reward model and behaviour-cloning policy, depending on what it is conditioned on.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from tdm_agents.protocols import Proposal
from tdm_agents.world_models.transformer.decoding.draft import TransformerDraft
from tdm_agents.world_models.transformer.decoding.propose import propose
from tdm_agents.world_models.transformer.decoding.state import TransformerState
from tdm_agents.world_models.transformer.token_model import TokenModel


class TransformerWorldModel(TokenModel):
    """A transformer that predicts each token from those before it; see :class:`.token_model.TokenModel`.

    An imagined step is ``n + 1`` forwards, or fewer where scalars are guessed together.
    """

    kind: ClassVar[str] = "transformer"

    def propose(
        self,
        state: TransformerState,
        count: int,
        *,
        generator: torch.Generator | None = None,
        deterministic: bool = False,
    ) -> Proposal:
        """Actions of the behaviour-cloning policy ``(h, o, r) -> a``; does not consume ``state``.

        Args:
            state: ``N`` rows.
            count: Actions per row.
            generator: Source of randomness.
            deterministic: The most likely tokens instead of sampled ones.

        Returns:
            Actions ``[N, count, m]`` and their log-probabilities ``[N, count]``.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        return propose(self.decoder, state, count, generator=generator, deterministic=deterministic)

    def draft(self, state: TransformerState) -> TransformerDraft:
        """``N`` transitions to be written token by token. Consumes ``state``.

        Raises:
            RuntimeError: If ``state`` was consumed, or stands at its horizon.
        """
        return TransformerDraft.begin(self.decoder, state)
