"""Feeds tokens of imagined steps through the network, against the cache of their rows."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from tdm_agents.world_models.transformer.cache import attend
from tdm_agents.world_models.transformer.layout import StepLayout
from tdm_agents.world_models.transformer.network import Block, TransformerNetwork
from tdm_agents.world_models.transformer.state import TransformerState


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
    time, chunk = state.time, tokens.shape[1]
    assert state.suffix is not None
    # tokens of the suffix inside the band: all of it, or context_steps - 1 whole steps and this one
    written = time * layout.tokens + offset + chunk - layout.observation_dim
    inside = min(written, (context_steps - 1) * layout.tokens + offset + chunk)
    state.suffix = suffix = state.suffix.room(chunk, keep=inside - chunk)
    end = suffix.used + chunk
    first = max(0, state.history_steps + time - context_steps) * layout.tokens
    shared = first < state.prefix.tokens
    visible = state.prefix.visible
    if visible is not None:
        visible = visible[:, first:]
    causal = None
    if chunk > 1:
        weight = network.head.weight
        causal = weight.new_full((chunk, inside), float("-inf")).triu(inside - chunk + 1)

    start = layout.position(offset)
    x = network.token(tokens) + network.position.weight[start : start + chunk]
    x = x.flatten(0, 1)  # [N c, d]
    rotation = state.rotation[time]
    last = len(network.blocks) - 1
    for index, block in enumerate(network.blocks):
        assert isinstance(block, Block)
        projected = block.project_step(x, rotation).view(3, -1, state.rows, chunk, rotation.shape[-1])
        suffix.write(index, projected[1:])
        query = projected[0]  # [heads, N, c, head_dim]
        if index == last and outputs < chunk:  # the other tokens have left their keys and values
            query, x = query[:, :, -outputs:].contiguous(), x.view(-1, chunk, x.shape[1])[:, -outputs:]
            x, causal = x.flatten(0, 1), None if causal is None else causal[-outputs:]
        own = suffix.buffer[index, :, :, :, end - inside : end]
        prefix = state.prefix.layers[index]
        attended = attend(
            query,
            (own[0], own[1]),
            (prefix[0][:, :, first:], prefix[1][:, :, first:]) if shared else None,
            state.grouping,
            visible,
            causal,
        )
        x = block.finish(x, attended.permute(1, 2, 0, 3).reshape(x.shape))
    state.suffix = replace(suffix, used=end)
    hidden: Tensor = network.norm(x)
    return hidden.view(state.rows, outputs, -1)
