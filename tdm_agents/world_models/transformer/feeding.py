"""One forward of new tokens through the network, against the cache of their rows."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from tdm_agents.world_models.transformer.cache import Grouping, Seen, attend, attend_by_values, put
from tdm_agents.world_models.transformer.layout import StepLayout
from tdm_agents.world_models.transformer.network import Block, TransformerNetwork

if TYPE_CHECKING:
    from tdm_agents.protocols import Step


class Rows(Protocol):
    """``N`` rows that tokens are fed to: they know what is cached, and what is seen of it.

    Attributes:
        observation: ``[N, n]``, of the last whole step.
        reward: ``[N]`` int64, the token of the reward that came with it.
        centres: ``[n + 1, bins]``: what each output bin stands for, observation scalars, then the reward.
        rounds: Of guesses after which it is looked whether scalars have changed, with parallel decoding.
    """

    observation: Tensor
    reward: Tensor
    centres: Tensor
    rounds: int

    def look(
        self, network: TransformerNetwork, layout: StepLayout, context_steps: int, *, offset: int, chunk: int
    ) -> Seen:
        """What ``chunk`` tokens at ``offset`` of the present step see."""
        ...

    def fed(self, chunk: int) -> None:
        """Note that so many tokens joined the cache; fewer than 0 leave it again."""
        ...

    def advance(self) -> None:
        """Go on to the next step: reward, separator and action of this one have been fed."""
        ...

    def keep(self, step: Step, reward: Tensor) -> None:
        """Stand after a step, with the token ``[N]`` of its reward."""
        ...


def feed(
    network: TransformerNetwork,
    layout: StepLayout,
    context_steps: int,
    rows: Rows,
    tokens: Tensor,
    *,
    offset: int,
    outputs: int = 1,
) -> Tensor:
    """Feed tokens of the rows' present step; their keys and values join the cache.

    Everything that decides which keys are read is a counter: no data, no synchronisation.

    Args:
        network: Whose weights.
        layout: Of its environment.
        context_steps: Attention band.
        rows: ``N`` of them, owned by the caller.
        tokens: ``[N, c]`` int64, next to each other in one decision step.
        offset: Of the first of them in that step.
        outputs: Of how many of the last tokens the hidden state is wanted.

    Returns:
        ``[N, outputs, d]``, normalised.
    """
    count, chunk = tokens.shape
    seen = rows.look(network, layout, context_steps, offset=offset, chunk=chunk)
    start = layout.position(offset)
    x = network.token(tokens) + network.position.weight[start : start + chunk]  # [N, c, d]
    through = _compiled() if seen.compiled else through_block
    last = len(network.blocks) - 1
    for index, block in enumerate(network.blocks):
        assert isinstance(block, Block)
        x = through(
            block,
            x,
            seen.projections[index],
            own=seen.own[index],
            at=seen.at,
            shared=seen.shared[index],
            grouping=seen.grouping,
            visible=seen.visible,
            hidden=seen.hidden,
            compiled=seen.compiled,
            outputs=outputs if index == last else chunk,
        )
    rows.fed(chunk)
    normal: Tensor = network.norm(x)
    return normal.view(count, outputs, -1)


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
    """New tokens ``[N, c, d]`` through one block; see :class:`.cache.Seen`.

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
