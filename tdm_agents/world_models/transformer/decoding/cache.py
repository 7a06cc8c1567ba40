"""Caches of a decoder: keys and values of the tokens that it has read, of two kinds.

The history of each of ``B`` environments is encoded once, and its keys and values are shared by all rows that
continue it. What a row imagines belongs to it alone. The layout of both depends on their reader: PyTorch's
products (:mod:`.packed_caches`) or the compiled loop (:mod:`tdm_agents.world_models.transformer.cpu`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from tdm_agents.world_models.transformer.decoding.grouping import Grouping
from tdm_agents.world_models.transformer.decoding.token_view import View
from tdm_agents.world_models.transformer.layout import StepLayout
from tdm_agents.world_models.transformer.network import TransformerNetwork


@dataclass(frozen=True, slots=True)
class Capacity:
    """The number of tokens that the cache of an imagined row holds, and their places.

    Attributes:
        step: Tokens per decision step.
        band: Tokens of the attention band, a multiple of ``step``.
        most: Largest number of tokens held at once; ``band`` where imagined tokens leave it.
        offset: Place of the first imagined token in its decision step.
        whole: Whether the tokens of a step, which are fed together, see each other.
    """

    step: int
    band: int
    most: int
    offset: int
    whole: bool

    @staticmethod
    def of(horizon: int, context_steps: int, layout: StepLayout) -> Capacity:
        """Capacity for ``horizon`` imagined steps, and any proposal after them, in a band of steps."""
        band = context_steps * layout.tokens
        most = min(horizon * layout.tokens + (0 if layout.whole else layout.chunk), band)
        return Capacity(layout.tokens, band, most, layout.acting, layout.whole)


class HistoryCache(Protocol):
    """Keys and values of ``B`` environments' histories; shared by rows, read-only."""

    @property
    def batch(self) -> int:
        """``B``."""
        ...

    @property
    def tokens(self) -> int:
        """``P``, tokens of the longest history."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        ...

    def imagined(self, rows: int, capacity: Capacity) -> ImaginedCache:
        """An empty cache of rows that continue these histories."""
        ...


class ImaginedCache(Protocol):
    """Keys and values of what each of ``N`` rows imagined.

    Attributes:
        written: Number of tokens so far, those that have left the band included.
    """

    written: int

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values, those not written yet included."""
        ...

    @staticmethod
    def projections(network: TransformerNetwork, rotation: Tensor) -> tuple[Tensor, ...]:
        """Weights for tokens of one decision step, in the form that :meth:`view` takes.

        Args:
            network: The weights.
            rotation: The step's :meth:`TransformerNetwork.step_rotations`.
        """
        ...

    def view(
        self, grouping: Grouping, projections: tuple[Tensor, ...], *, first: int, chunk: int, inside: int
    ) -> View:
        """The view of the next tokens, after making room for them.

        Args:
            grouping: The history that each row continues.
            projections: The :meth:`projections` of the step.
            first: The first token of the history inside the band; at least ``P`` if all have left.
            chunk: Number of next tokens.
            inside: Number of imagined tokens inside the band, the chunk included.
        """
        ...

    def take(self, rows: Tensor) -> ImaginedCache:
        """Copies of the given rows."""
        ...
