"""The view of new tokens of imagined rows: what they attend to, and how they go through a block."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from tdm_agents.world_models.transformer.network import Block


class View(Protocol):
    """The keys and values that the new tokens of one forward attend to, and the places of their own."""

    def through(self, index: int, block: Block, x: Tensor, outputs: int) -> Tensor:
        """New tokens ``[N, c, d]`` through one block; all leave their keys and values in the cache.

        Args:
            index: Number of the block.
            block: The block, with its weights.
            x: The tokens.
            outputs: Number of last tokens whose output is wanted.

        Returns:
            Outputs ``[N, outputs, d]``.
        """
        ...
