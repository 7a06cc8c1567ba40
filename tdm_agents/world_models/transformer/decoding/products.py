"""Attention of imagined rows by PyTorch's products, over the history that rows share and their own tokens.

A query attends over both in one softmax. The history is never copied for a row: queries of the rows that
share one are brought together instead, which also turns many small products into one large one. All rows
advance in lock-step, so counters alone, never data, decide which keys are inside the attention band.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tdm_agents.remarks import announced_once
from tdm_agents.world_models.transformer.decoding.grouping import Grouping
from tdm_agents.world_models.transformer.decoding.token_view import through_blocks
from tdm_agents.world_models.transformer.network import Block, TransformerNetwork


@dataclass(frozen=True, slots=True)
class ProductsView:
    """The view of new tokens, block by block, for PyTorch's products; see :class:`.view.View`.

    Attributes:
        projections: Per block, the :meth:`.network.Block.step_projection` of the tokens' step.
        own: Per block, the rows' own keys and values, ``[2, heads, N, S, head_dim]``.
        at: Places in ``S`` of the new tokens: the first of consecutive places, or all of them, int64 ``[c]``.
        shared: Per block, the histories inside the band, ``[2, heads, B, P, head_dim]``, or None.
        grouping: The history that each row continues.
        visible: As in :func:`attend`.
        mask: As in :func:`attend`.
        compiled: Whether blocks go through ``torch.compile``.
    """

    projections: Sequence[Tensor]
    own: Sequence[Tensor]
    at: int | Tensor
    shared: Sequence[Tensor | None]
    grouping: Grouping
    visible: Tensor | None
    mask: Tensor | None
    compiled: bool = False

    def hidden(self, network: TransformerNetwork, x: Tensor, outputs: int) -> Tensor:
        """New tokens through all blocks; see :meth:`.token_view.View.hidden`."""
        return through_blocks(self, network, x, outputs)

    def through(self, index: int, block: Block, x: Tensor, outputs: int) -> Tensor:
        """New tokens through one block; see :meth:`.view.View.through`."""
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
            mask=self.mask,
            compiled=self.compiled,
            outputs=outputs,
        )
        return out


def put(own: Tensor, keys_values: Tensor, at: int | Tensor) -> None:
    """Write keys and values ``[2, heads, N, c, head_dim]`` of new tokens at the places ``at``."""
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
    mask: Tensor | None,
    compiled: bool,
    outputs: int,
) -> Tensor:
    """New tokens ``[N, c, d]`` through one block; see :class:`ProductsView`.

    Returns:
        Outputs ``[N, outputs, d]`` of the last tokens; the others have left their keys and values.
    """
    count, chunk, width = x.shape
    projected = block.project_step(x.flatten(0, 1), projection)  # [3 heads, N c, head_dim]
    projected = projected.view(3, block.heads, count, chunk, -1)
    put(own, projected[1:], at)
    query = projected[0]  # [heads, N, c, head_dim]
    if outputs < chunk:
        query, x = query[:, :, -outputs:].contiguous(), x[:, -outputs:]
        mask = None if mask is None else mask[-outputs:]
    if compiled:
        assert shared is not None and visible is not None and mask is not None
        attended = attend_by_values(query, own, shared, grouping, visible, mask)
    else:
        attended = attend(query, own, shared, grouping, visible, mask)
    attended = attended.permute(1, 2, 0, 3).reshape(-1, width)
    return block.finish(x.flatten(0, 1), attended).view(count, outputs, width)


def attend(
    query: Tensor,
    own: Tensor,
    shared: Tensor | None,
    grouping: Grouping,
    visible: Tensor | None,
    mask: Tensor | None,
) -> Tensor:
    """Attention of each row over its history and what it imagined, as one softmax.

    These are plain products. The scores of both are written side by side into one tensor, so that nothing has
    to be merged.

    Args:
        query: ``[heads, N, c, head_dim]``, contiguous; its products with keys are the scores.
        own: Keys and values of what rows imagined, ``[2, heads, N, S, head_dim]``.
        shared: Those of histories inside the band, ``[2, heads, B, P, head_dim]``; None once they have left.
        grouping: The history that each row continues.
        visible: ``[B, P]`` bool over ``shared``, or None if all of it is visible.
        mask: ``[c, S]`` float, -inf where ``own`` is hidden and 0 elsewhere; None if all of it is visible.

    Returns:
        The attended values ``[heads, N, c, head_dim]``.
    """
    keys, values = own.flatten(1, 2)  # [heads N, S, head_dim]
    own_scores = torch.bmm(query.flatten(0, 1), keys.transpose(1, 2))  # [heads N, c, S]
    if shared is None:
        if mask is not None:
            own_scores += mask
        return torch.bmm(own_scores.softmax(dim=-1), values).view(query.shape)
    history_keys, history_values = shared.flatten(1, 2)  # [heads B, P, head_dim]
    length = history_keys.shape[1]
    scores = query.new_empty((*query.shape[:3], length + keys.shape[1]))  # [heads, N, c, P + S]
    beside = scores[..., length:].flatten(0, 1)
    if mask is None:
        beside.copy_(own_scores)
    else:
        torch.add(own_scores, mask, out=beside)
    history_scores = grouping.gather(scores[..., :length])  # [heads B, size c, P]; a view if in order
    torch.bmm(grouping.gather(query), history_keys.transpose(1, 2), out=history_scores)
    if visible is not None:
        by_history = history_scores.view(len(query), -1, *history_scores.shape[1:])  # [heads, B, size c, P]
        by_history.masked_fill_(~visible[:, None], float("-inf"))
    if not grouping.in_order:
        scores[..., :length] = grouping.scatter(history_scores, query.shape[2])
    torch.softmax(scores, dim=-1, out=scores)
    attended = torch.bmm(grouping.gather(scores[..., :length]), history_values)
    attended = grouping.scatter(attended, query.shape[2])
    return torch.baddbmm(attended.flatten(0, 1), beside, values).view(query.shape)


def attend_by_values(
    query: Tensor,
    own: Tensor,
    shared: Tensor,
    grouping: Grouping,
    visible: Tensor,
    mask: Tensor,
) -> Tensor:
    """:func:`attend` for ``torch.compile``, which does not support writing into views, and fuses this.

    Rows must be in order; the softmax is computed in float32.
    """
    heads, rows, chunk, head_dim = query.shape
    keys, values = own.flatten(1, 2)  # [heads N, S, head_dim]
    history_keys, history_values = shared.flatten(1, 2)  # [heads B, P, head_dim]
    length, batch = history_keys.shape[1], grouping.batch
    history_scores = torch.bmm(query.reshape(heads * batch, -1, head_dim), history_keys.transpose(1, 2))
    history_scores = history_scores.view(heads, batch, -1, length).masked_fill(
        ~visible[:, None], float("-inf")
    )
    own_scores = torch.bmm(query.flatten(0, 1), keys.transpose(1, 2)) + mask  # [heads N, c, S]
    scores = torch.cat([history_scores.view(heads * rows, chunk, length), own_scores], dim=-1)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    from_history = torch.bmm(weights[..., :length].reshape(heads * batch, -1, length), history_values)
    from_own = torch.bmm(weights[..., length:], values)
    return from_history.view(query.shape) + from_own.view(query.shape)


@functools.cache
def _compiled() -> Any:
    import torch._dynamo.config as dynamo  # seconds to import

    # three variants per captured size; beyond the limits (8 and 256 by default) a full graph is an error
    for limit in ("recompile_limit", "accumulated_recompile_limit"):
        name = limit if hasattr(dynamo, limit) else limit.replace("recompile", "cache_size")  # torch < 2.6
        setattr(dynamo, name, max(getattr(dynamo, name), 1024))
    return announced_once(
        "torch.compile compiles the transformer's blocks at their first use in this process",
        torch.compile(through_block, dynamic=False, fullgraph=True),
    )
