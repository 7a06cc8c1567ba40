"""Other ways to imagine with the same weights, against which sharing the history is measured.

Each is a fair version of what is common elsewhere, with the same chunks (reward, separator and action in one
forward), the same uniform numbers and so, up to near ties, the same tokens as
:class:`tdm_agents.world_models.transformer.model.TransformerWorldModel` when it samples. Each yields the
observations ``[N, n]`` of one imagined step at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from tdm_agents.protocols import History
from tdm_agents.world_models.transformer.decoding.grouping import Grouping
from tdm_agents.world_models.transformer.decoding.packed_caches import PackedHistory
from tdm_agents.world_models.transformer.decoding.reading import choose_bin
from tdm_agents.world_models.transformer.decoding.state import TransformerState
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.network import Block
from tdm_agents.world_models.transformer.packing import Windows, pack
from tdm_agents.world_models.transformer.token_batch import step_tokens

Extend = Callable[[Tensor, int, int], Tensor]
"""``extend(tokens[N, c], offset, time) -> logits[N, bins]`` after tokens at ``offset`` of imagined step
``time``; 0 is the present."""


def shared(
    model: TransformerWorldModel,
    history: History,
    actions: Tensor,
    *,
    generator: torch.Generator,
    max_rows: int | None = None,
) -> Iterator[Tensor]:
    """The package's way: one encoded history per environment, and a cache of what each row imagines.

    Args:
        model: The model, which decodes in parallel where its settings say so.
        history: Histories of ``B`` environments.
        actions: ``[B K, H, m]``, environment by environment.
        generator: Source of randomness.
        max_rows: Rows that are imagined at once, as a planner's ``max_rows``; None means all.
    """
    for state, some in _parts(model, history, actions, max_rows):
        yield from _stepped(model, state, some, generator)


def replayed(
    model: TransformerWorldModel,
    history: History,
    actions: Tensor,
    *,
    generator: torch.Generator,
    max_rows: int | None = None,
) -> Iterator[Tensor]:
    """The package's way in whole rollouts, which replay a captured step where the model's settings say so."""
    for state, some in _parts(model, history, actions, max_rows):
        imagined = model.rollout(state, some, generator=generator)
        assert imagined.observation is not None
        yield from imagined.observation.unbind(dim=1)


def copied(
    model: TransformerWorldModel, history: History, actions: Tensor, *, generator: torch.Generator
) -> Iterator[Tensor]:
    """The package's code for products, with the history's keys and values copied for every candidate."""
    state = model.with_decoding(attention="products").start(history, horizon=actions.shape[1])
    yield from _stepped(model, copied_state(state, _environments(history, actions)), actions, generator)


def copied_state(state: TransformerState, rows: Tensor) -> TransformerState:
    """Rows (int64 ``[N]``) of a fresh state, each with a copy of its history."""
    assert isinstance(state.history, PackedHistory)  # for PyTorch's products
    layers = tuple(layer[:, :, rows] for layer in state.history.layers)
    visible = state.history.visible
    every = torch.arange(len(rows), device=rows.device)
    return replace(
        state,
        history=PackedHistory(layers, None if visible is None else visible[rows]),
        grouping=Grouping.of(every, len(rows)),
        observation=state.observation[rows],
        reward=state.reward[rows],
    )


@torch.no_grad()
def concatenated(
    model: TransformerWorldModel, history: History, actions: Tensor, *, generator: torch.Generator
) -> Iterator[Tensor]:
    """A separate cache for every candidate, grown by concatenation with every forward, fused attention."""
    layout, network = model.layout, model.network
    state = model.with_decoding(attention="products").start(history, horizon=actions.shape[1])
    assert isinstance(state.history, PackedHistory)
    rows = _environments(history, actions)
    cache = [  # [N, heads, tokens, head_dim], as the fused attention takes it
        tuple(x.transpose(0, 1)[rows] for x in layer) for layer in state.history.layers
    ]
    rotations = network.rotation(torch.arange(actions.shape[1] + 1, device=actions.device))

    def extend(tokens: Tensor, offset: int, time: int) -> Tensor:
        chunk = tokens.shape[1]
        start = layout.position(offset)
        x = network.token(tokens) + network.position.weight[start : start + chunk]
        rotation = (rotations[0][time : time + 1], rotations[1][time : time + 1])
        within = (model.context_steps - 1) * layout.tokens + offset + chunk
        for index, block in enumerate(network.blocks):
            assert isinstance(block, Block)
            query, key, value = block.project(x, rotation)
            keys, values = (torch.cat(pair, dim=2) for pair in zip(cache[index], (key, value), strict=True))
            # tokens that have left the band are dropped, as in a sliding cache
            cache[index] = keys, values = keys[:, :, -within:], values[:, :, -within:]
            mask = None
            if chunk > 1:
                mask = torch.ones(chunk, keys.shape[2], dtype=torch.bool, device=keys.device)
                mask = mask.tril(keys.shape[2] - chunk)
            attended = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
            x = block.finish(x, attended.transpose(1, 2).flatten(2))
        return network.logits(network.norm(x[:, -1]))

    yield from sampled(model, history, actions, extend, generator=generator)


@torch.no_grad()
def uncached(
    model: TransformerWorldModel, history: History, actions: Tensor, *, generator: torch.Generator
) -> Iterator[Tensor]:
    """No cache: every forward recomputes all tokens inside the band, as the Trajectory Transformer does.

    Where the band slides, its tokens differ: those that have left the band are not computed, whereas they had
    an effect on keys and values that the others cache.
    """
    layout, network = model.layout, model.network
    # [N, P], then the imagined tokens
    seen = history_tokens(model, history)[_environments(history, actions)]

    def extend(tokens: Tensor, offset: int, time: int) -> Tensor:
        nonlocal seen
        seen = torch.cat([seen, tokens], dim=1)
        within = (model.context_steps - 1) * layout.tokens + offset + tokens.shape[1]
        seen = seen[:, -within:]
        missing = -seen.shape[1] % layout.tokens  # of the last step, which causal attention does not see
        whole = F.pad(seen, (0, missing)).view(len(seen), -1, layout.tokens)
        hidden = network(pack([Windows(whole, layout, model.context_steps)]))  # [N T (n + m + 2), d]
        hidden = hidden.view(len(whole), -1, hidden.shape[-1])
        return network.logits(hidden[:, seen.shape[1] - 1])

    yield from sampled(model, history, actions, extend, generator=generator)


def history_tokens(model: TransformerWorldModel, history: History) -> Tensor:
    """The tokens ``[B, P]`` int64 of a history: its steps inside the band, up to the present."""
    steps = min(history.observation.shape[1], model.context_steps)
    past = history.action[:, history.action.shape[1] - (steps - 1) :]
    action = torch.cat([past, past.new_zeros((history.batch, 1, past.shape[2]))], dim=1)
    observation, reward = history.observation[:, -steps:], history.reward[:, -steps:]
    tokens = step_tokens(model.tokenizer, observation, reward, action)  # [B, T, n + m + 2]
    return tokens.flatten(1)[:, : -model.layout.chunk]


def sampled(
    model: TransformerWorldModel,
    history: History,
    actions: Tensor,
    extend: Extend,
    *,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    """Sample steps scalar by scalar with any network, as ``TransformerWorldModel.step`` does.

    Args:
        model: The model whose tokens are used; its targets are absolute.
        history: Histories of ``B`` environments.
        actions: ``[N, H, m]``.
        extend: Feeds tokens to the network.
        generator: Source of randomness.

    Raises:
        ValueError: If the model's targets are changes.
    """
    layout, tokenizer = model.layout, model.tokenizer
    if tokenizer.change is not None:
        raise ValueError("the model's targets are changes; expected absolute ones: set tokenizer.target")
    rows, device = len(actions), actions.device
    reward = tokenizer.encode_reward(history.reward[_environments(history, actions), -1].float())
    separator = torch.full_like(reward, tokenizer.separator)
    centres = [tokenizer.target_centres(i) for i in range(layout.observation_dim)]
    for time in range(actions.shape[1]):
        uniform = torch.rand((layout.observation_dim + 2, rows), generator=generator, device=device)
        known = [torch.stack([reward, separator], dim=1), tokenizer.encode_action(actions[:, time])]
        logits = extend(torch.cat(known, dim=1), layout.observation_dim, time)
        scalars = []
        for i in range(layout.observation_dim):
            scalars.append(centres[i][choose_bin(logits, uniform[i])])
            token = tokenizer.encode_observation_scalar(i, scalars[-1])
            logits = extend(token[:, None], i, time + 1)
        reward = choose_bin(logits, uniform[-2])
        yield torch.stack(scalars, dim=1)


def _stepped(
    model: TransformerWorldModel, state: TransformerState, actions: Tensor, generator: torch.Generator
) -> Iterator[Tensor]:
    for time in range(actions.shape[1]):
        state, step = model.step(state, actions[:, time], generator=generator)
        assert step.observation is not None
        yield step.observation


def _parts(
    model: TransformerWorldModel, history: History, actions: Tensor, max_rows: int | None
) -> Iterator[tuple[TransformerState, Tensor]]:
    """The rows that are imagined at once, and their actions; the history is read once for all."""
    start = model.start(history, horizon=actions.shape[1])
    most = max_rows or len(actions)
    rows = torch.split(_environments(history, actions), most)
    for some, acted in zip(rows, torch.split(actions, most), strict=True):
        yield model.take(start, some), acted


def _environments(history: History, actions: Tensor) -> Tensor:
    """The environment of each row, ``[N]``."""
    every = torch.arange(history.batch, device=actions.device)
    return every.repeat_interleave(len(actions) // history.batch)
