"""What new tokens of imagined rows attend to, and how they go through a block."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from tdm_agents.world_models.transformer.network import Block


class View(Protocol):
    """What the new tokens of one forward attend to, and where their own keys and values go."""

    def through(self, index: int, block: Block, x: Tensor, outputs: int) -> Tensor:
        """New tokens ``[N, c, d]`` through one block; all leave their keys and values in the cache.

        Args:
            index: Number of the block.
            block: Its weights.
            x: The tokens.
            outputs: For how many of the last tokens the output is wanted.

        Returns:
            ``[N, outputs, d]``.
        """
        ...
