"""Imagined rows, as a decoder sees them."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from tdm_agents.protocols import Step
from tdm_agents.world_models.transformer.decoding.view import View
from tdm_agents.world_models.transformer.network import TransformerNetwork


class Rows(Protocol):
    """``N`` rows that tokens are fed to: they know what is cached, and what is inside the attention band.

    Attributes:
        observation: ``[N, n]``, of the last whole step.
        reward: ``[N]`` int64, the token of the reward that came with it.
        centres: ``[n + 1, bins]``: what each output bin stands for, observation scalars, then the reward.
        rounds: Rounds of guesses before the first look at whether scalars still change; see :mod:`.together`.
    """

    observation: Tensor
    reward: Tensor
    centres: Tensor
    rounds: int

    def view(self, network: TransformerNetwork, *, offset: int, chunk: int) -> View:
        """What ``chunk`` tokens at ``offset`` of the present step attend to."""
        ...

    def fed(self, chunk: int) -> None:
        """Note that so many tokens joined the cache; a negative number leaves it again."""
        ...

    def advance(self) -> None:
        """Go on to the next step: reward, separator and action of this one have been fed."""
        ...

    def keep(self, step: Step, reward: Tensor) -> None:
        """Stand after a step, with the token ``[N]`` of its reward."""
        ...
