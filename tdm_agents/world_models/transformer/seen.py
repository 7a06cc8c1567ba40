"""What new tokens of a forward see, and how they go through a block."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from tdm_agents.world_models.transformer.cache import Grouping, attend, attend_by_values
from tdm_agents.world_models.transformer.network import Block


class Sight(Protocol):
    """What new tokens of every row see."""

    def through(self, index: int, block: Block, x: Tensor, outputs: int) -> Tensor:
        """New tokens ``[N, c, d]`` through one block; all leave their keys and values.

        Args:
            index: Of the block.
            block: Its weights.
            x: The tokens.
            outputs: Of how many of the last of them the output is wanted.

        Returns:
            ``[N, outputs, d]``.
        """
        ...


@dataclass(frozen=True, slots=True)
class Seen:
    """What they see, block by block, and where their own keys and values go; for PyTorch's products.

    Attributes:
        projections: Of each block, :meth:`.network.Block.step_projection` of the tokens' step.
        own: Of each block, the rows' own keys and values, ``[2, heads, N, S, head_dim]``.
        at: Where in ``S`` the tokens go: the first place of neighbours, or all of them, int64 ``[c]``.
        shared: Of each block, the prefix inside the band, ``[2, heads, B, P, head_dim]``, or None.
        grouping: Which row continues which prefix.
        visible: As :func:`.cache.attend` has it.
        hidden: As :func:`.cache.attend` has it.
        compiled: Whether blocks go through ``torch.compile``.
    """

    projections: Sequence[Tensor]
    own: Sequence[Tensor]
    at: int | Tensor
    shared: Sequence[Tensor | None]
    grouping: Grouping
    visible: Tensor | None
    hidden: Tensor | None
    compiled: bool = False

    def through(self, index: int, block: Block, x: Tensor, outputs: int) -> Tensor:
        """As :class:`Sight` has it."""
        through = _compiled() if self.compiled else through_block
        out: Tensor = through(
            block,
            x,
            self.projections[index],
            own=self.own[index],
            at=self.at,
            shared=self.shared[index],
            grouping=self.grouping,
            visible=self.visible,
            hidden=self.hidden,
            compiled=self.compiled,
            outputs=outputs,
        )
        return out


def put(own: Tensor, keys_values: Tensor, at: int | Tensor) -> None:
    """Write the keys and values of new tokens ``[2, heads, N, c, head_dim]`` where :class:`Seen` says."""
    if isinstance(at, int):
        own.narrow(3, at, keys_values.shape[3]).copy_(keys_values)
    else:
        own.index_copy_(3, at, keys_values)


def through_block(
    block: Block,
    x: Tensor,
    projection: Tensor,
    *,
    own: Tensor,
    at: int | Tensor,
    shared: Tensor | None,
    grouping: Grouping,
    visible: Tensor | None,
    hidden: Tensor | None,
    compiled: bool,
    outputs: int,
) -> Tensor:
    """New tokens ``[N, c, d]`` through one block; see :class:`Seen`.

    Returns:
        ``[N, outputs, d]`` of the last tokens; the others have left their keys and values.
    """
    count, chunk, width = x.shape
    projected = block.project_step(x.flatten(0, 1), projection)  # [3 heads, N c, head_dim]
    projected = projected.view(3, block.heads, count, chunk, -1)
    put(own, projected[1:], at)
    query = projected[0]  # [heads, N, c, head_dim]
    if outputs < chunk:
        query, x = query[:, :, -outputs:].contiguous(), x[:, -outputs:]
        hidden = None if hidden is None else hidden[-outputs:]
    if compiled:
        assert shared is not None and visible is not None and hidden is not None
        attended = attend_by_values(query, own, shared, grouping, visible, hidden)
    else:
        attended = attend(query, own, shared, grouping, visible, hidden)
    attended = attended.permute(1, 2, 0, 3).reshape(-1, width)
    return block.finish(x.flatten(0, 1), attended).view(count, outputs, width)


@functools.cache
def _compiled() -> Any:
    import torch._dynamo.config as dynamo  # seconds to import

    # three variants a captured size; beyond the limits, 8 and 256 by default, a whole graph is an error
    for limit in ("recompile_limit", "accumulated_recompile_limit"):
        name = limit if hasattr(dynamo, limit) else limit.replace("recompile", "cache_size")  # torch < 2.6
        setattr(dynamo, name, max(getattr(dynamo, name), 1024))
    return torch.compile(through_block, dynamic=False, fullgraph=True)
