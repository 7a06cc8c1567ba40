"""The interface of imagined rows to a decoder."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from tdm_agents.protocols import Step
from tdm_agents.world_models.transformer.decoding.token_view import View
from tdm_agents.world_models.transformer.network import TransformerNetwork


class Rows(Protocol):
    """``N`` rows that are fed tokens: they know what is cached, and what is inside the attention band.

    Attributes:
        observation: ``[N, n]``, the observation of the last whole step.
        reward: ``[N]`` int64, the token of the reward that came with it.
        centres: ``[n + 1, bins]``, the value of each output bin: observation scalars, then the reward, and
            where returns are predicted those of the return.
        rounds: Rounds of guesses before the first check whether scalars still change; see :mod:`.together`.
    """

    observation: Tensor
    reward: Tensor
    centres: Tensor
    rounds: int

    def view(self, network: TransformerNetwork, *, offset: int, chunk: int) -> View:
        """The view of ``chunk`` tokens at ``offset`` of the present step."""
        ...

    def fed(self, chunk: int) -> None:
        """Note that ``chunk`` tokens joined the cache; a negative number removes them again."""
        ...

    def advance(self) -> None:
        """Go on to the next step, after reward, separator and action of this one have been fed."""
        ...

    def keep(self, step: Step, reward: Tensor, to_go: Tensor | None) -> None:
        """Store a step as the last one.

        Args:
            step: The step.
            reward: Token ``[N]`` of its reward.
            to_go: The predicted return after it, ``[N]``, if any is.
        """
        ...
