"""The view of new tokens of imagined rows: what they attend to, and how they go through a block."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from tdm_agents.world_models.transformer.network import Block, TransformerNetwork


class View(Protocol):
    """The keys and values that the new tokens of one forward attend to, and the places of their own."""

    def hidden(self, network: TransformerNetwork, x: Tensor, outputs: int) -> Tensor:
        """New tokens ``[N, c, d]`` through all blocks and the last norm.

        All tokens leave their keys and values in the cache.

        Args:
            network: The weights.
            x: The tokens, which may be changed.
            outputs: Number of last tokens whose output is wanted.

        Returns:
            Hidden states ``[N, outputs, d]``, normalised.
        """
        ...


class BlockView(Protocol):
    """A view of new tokens that takes them through one block."""

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


def through_blocks(view: BlockView, network: TransformerNetwork, x: Tensor, outputs: int) -> Tensor:
    """:meth:`View.hidden` block by block."""
    chunk, last = x.shape[1], len(network.blocks) - 1
    for index, block in enumerate(network.blocks):
        assert isinstance(block, Block)
        x = view.through(index, block, x, outputs if index == last else chunk)
    normal: Tensor = network.norm(x)
    return normal
