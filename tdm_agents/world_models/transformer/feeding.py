"""Feeds tokens of imagined steps through the network, against the cache of their rows."""

from __future__ import annotations

import torch
from torch import Tensor

from tdm_agents.world_models.transformer.cache import attend
from tdm_agents.world_models.transformer.layout import StepLayout
from tdm_agents.world_models.transformer.network import Block, TransformerNetwork
from tdm_agents.world_models.transformer.state import TransformerState
from tdm_agents.world_models.transformer.suffix import Suffix


def feed(
    network: TransformerNetwork,
    layout: StepLayout,
    context_steps: int,
    state: TransformerState,
    tokens: Tensor,
    *,
    offset: int,
    outputs: int = 1,
) -> Tensor:
    """Feed tokens of step ``state.time``; their keys and values join the suffix of ``state``.

    Everything that decides which keys are read is a counter: no data, no synchronisation.

    Args:
        network: Whose weights.
        layout: Of its environment.
        context_steps: Attention band.
        state: ``N`` rows, owned by the caller.
        tokens: ``[N, c]`` int64, next to each other in one decision step.
        offset: Of the first of them in that step.
        outputs: Of how many of the last tokens the hidden state is wanted.

    Returns:
        ``[N, outputs, d]``, normalised.
    """
    time, chunk, suffix = state.time, tokens.shape[1], state.suffix
    assert suffix is not None
    # tokens of the suffix inside the band: all of it, or context_steps - 1 whole steps and this one
    written = time * layout.tokens + offset + chunk - layout.observation_dim
    inside = min(written, (context_steps - 1) * layout.tokens + offset + chunk)
    suffix.make_room(chunk, keep=inside - chunk, step=layout.tokens)
    hidden = _hidden(suffix, chunk, inside, network.head.weight)
    first = max(0, state.history_steps + time - context_steps) * layout.tokens
    visible = state.prefix.visible
    if visible is not None:
        visible = visible[:, first:]

    start = layout.position(offset)
    x = network.token(tokens) + network.position.weight[start : start + chunk]
    x = x.flatten(0, 1)  # [N c, d]
    if state.projected != time:
        rotation = state.rotation[time]
        blocks = (block for block in network.blocks if isinstance(block, Block))
        state.projections = tuple(block.step_projection(rotation) for block in blocks)
        state.projected = time
    last = len(network.blocks) - 1
    for index, block in enumerate(network.blocks):
        assert isinstance(block, Block)
        projected = block.project_step(x, state.projections[index])  # [3 heads, N c, head_dim]
        projected = projected.view(3, block.heads, state.rows, chunk, -1)
        suffix.write(index, projected[1:])
        query = projected[0]  # [heads, N, c, head_dim]
        if index == last and outputs < chunk:  # the other tokens have left their keys and values
            query, x = query[:, :, -outputs:].contiguous(), x.view(-1, chunk, x.shape[1])[:, -outputs:]
            x, hidden = x.flatten(0, 1), None if hidden is None else hidden[-outputs:]
        shared = state.prefix.layers[index][..., first:, :] if first < state.prefix.tokens else None
        attended = attend(query, suffix.layers[index], shared, state.grouping, visible, hidden)
        x = block.finish(x, attended.permute(1, 2, 0, 3).reshape(x.shape))
    suffix.used += chunk
    normal: Tensor = network.norm(x)
    return normal.view(state.rows, outputs, -1)


def _hidden(suffix: Suffix, chunk: int, inside: int, like: Tensor) -> Tensor | None:
    """What the next ``chunk`` tokens do not see of the suffix, as :func:`attend` wants it.

    Left of the band, later tokens of the chunk, and what is not written yet.

    Args:
        suffix: With room for them.
        chunk: Tokens.
        inside: Of the suffix inside the band, the chunk included.
        like: Of the device and type wanted.
    """
    end = suffix.used + chunk
    if chunk == 1 and inside == suffix.capacity:
        return None
    key = torch.arange(suffix.capacity, device=like.device)
    query = torch.arange(suffix.used, end, device=like.device)[:, None]
    unseen = (key > query) | (key < end - inside)  # [c, S]
    return like.new_zeros(unseen.shape).masked_fill_(unseen, float("-inf"))
