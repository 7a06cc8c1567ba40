"""Encoding of histories, in one forward, into the state from which rows imagine."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tdm_agents.protocols import History
from tdm_agents.world_models.transformer.attention import band_mask
from tdm_agents.world_models.transformer.decoding.cache import Capacity, HistoryCache
from tdm_agents.world_models.transformer.decoding.decoder import Decoder
from tdm_agents.world_models.transformer.decoding.grouping import Grouping
from tdm_agents.world_models.transformer.decoding.numbers import attends_in_loop
from tdm_agents.world_models.transformer.decoding.packed_caches import PackedHistory
from tdm_agents.world_models.transformer.decoding.state import TransformerState
from tdm_agents.world_models.transformer.layout import StepLayout
from tdm_agents.world_models.transformer.network import Block, TransformerNetwork
from tdm_agents.world_models.transformer.token_batch import step_tokens


@torch.no_grad()
def encode(decoder: Decoder, history: History, *, horizon: int) -> TransformerState:
    """The state after ``B`` histories; rows of different lengths are masked.

    Args:
        decoder: The decoder that will imagine from there.
        history: The histories, of which the last ``context_steps`` are read.
        horizon: Number of steps that may be imagined from here.

    Raises:
        ValueError: If shapes do not fit the model, a value is NaN, or ``horizon < 1``.
    """
    network, tokenizer, layout = decoder.network, decoder.tokenizer, decoder.layout
    _check(history, horizon, layout)
    steps = min(history.observation.shape[1], decoder.context_steps)
    tokens = _tokens(decoder, history, steps)
    device = tokens.device
    step_of = torch.arange(tokens.shape[1], device=device) // layout.tokens  # [P]
    visible, mask = _band(history.length.clamp(max=steps), steps, step_of, layout)
    layers, outputs = _keys_and_values(network, layout, tokens, step_of, mask, steps)
    centres = [*map(tokenizer.target_centres, range(layout.observation_dim)), tokenizer.reward_centres()]
    if tokenizer.to_go is not None:
        centres.append(tokenizer.to_go.centres())
    every = torch.stack(centres)
    to_go = None
    if network.returns is not None:
        present = network.norm(outputs[:, -1])
        to_go = decoder.read_to_go(present, every, decoder.read_survival(present))
    return TransformerState(
        history=_as_read(layers, visible, decoder),
        grouping=Grouping.of(torch.arange(history.batch, device=device), history.batch),
        imagined=None,
        capacity=Capacity.of(horizon, decoder.context_steps, layout),
        rotation=network.step_rotations(torch.arange(horizon + 1, device=device)),
        centres=every,
        observation=history.observation[:, -1].float(),
        reward=tokenizer.encode_reward(history.reward[:, -1].float()),
        history_steps=steps,
        horizon=horizon,
        to_go=to_go,
    )


def _tokens(decoder: Decoder, history: History, steps: int) -> Tensor:
    """Tokens of the last steps, ``[B, P]``, without those of the present that are fed with the action."""
    action = history.action[:, history.action.shape[1] - (steps - 1) :]
    action = torch.cat([action, action.new_zeros((history.batch, 1, decoder.layout.action_dim))], dim=1)
    observation, reward = history.observation[:, -steps:].float(), history.reward[:, -steps:].float()
    tokens = step_tokens(decoder.tokenizer, observation, reward, action)  # [B, T, n + m + 2]
    return tokens.flatten(1)[:, : (steps - 1) * decoder.layout.tokens + decoder.layout.acting]


def _band(
    lengths: Tensor, steps: int, step_of: Tensor, layout: StepLayout
) -> tuple[Tensor | None, Tensor | None]:
    """The tokens that are not padding, ``[B, P]``, and the mask ``[B, 1, P, P]``; None without padding.

    Without padding, all earlier tokens are inside a token's band, and the mask of whole steps is ``[P, P]``.
    """
    padded = not bool((lengths == steps).all())
    if not padded and not layout.whole:
        return None, None
    causal = band_mask(steps, layout.tokens, steps, step_of.device, whole=layout.whole)
    causal = causal[: len(step_of), : len(step_of)]
    if not padded:
        return None, causal
    visible = step_of[None] >= steps - lengths[:, None]  # [B, P]
    # padding sees its own step, so that its softmax is not empty
    own = step_of[:, None] == step_of
    return visible, (causal & (visible[:, None] | own))[:, None]


def _keys_and_values(
    network: TransformerNetwork,
    layout: StepLayout,
    tokens: Tensor,
    step_of: Tensor,
    mask: Tensor | None,
    steps: int,
) -> tuple[list[Tensor], Tensor]:
    """Keys and values of the tokens ``[B, P]`` per layer, ``[2, heads, B, P, head_dim]``.

    Beside them are the outputs ``[B, P, d]``, before the last norm. The last token is o_n or, where steps are
    whole, the last action. Only returns are read from it.
    """
    positions = layout.positions(tokens.device).repeat(steps)[: len(step_of)]
    x = network.embed(tokens, positions)
    rotation = network.rotation(step_of - (steps - 1))
    layers = []
    for block in network.blocks:
        assert isinstance(block, Block)
        query, key, value = block.project(x, rotation)
        layers.append(torch.stack([key, value]).transpose(1, 2).contiguous())
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)
        x = block.finish(x, attended.transpose(1, 2).flatten(2))
    return layers, x


def _as_read(layers: list[Tensor], visible: Tensor | None, decoder: Decoder) -> HistoryCache:
    """The keys and values in the layout that imagined rows read; they are taken out of the list."""
    if not attends_in_loop(decoder.network, decoder.options):
        return PackedHistory(tuple(layers), visible)
    from tdm_agents.world_models.transformer.cpu.loop_caches import PanelHistory  # imports numba

    history = PanelHistory.of(layers, visible)
    if decoder.weights is None:
        return history
    from tdm_agents.world_models.transformer.cpu.tiled_caches import TiledHistory

    return TiledHistory.with_weights(history, decoder.weights)


def _check(history: History, horizon: int, layout: StepLayout) -> None:
    n, m = layout.observation_dim, layout.action_dim
    batch, steps = history.observation.shape[:2]
    expected = {
        "observation": (history.observation, (batch, steps, n)),
        "reward": (history.reward, (batch, steps)),
        "action": (history.action, (batch, steps - 1, m)),
        "length": (history.length, (batch,)),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"history.{name} has shape {tuple(tensor.shape)}; expected {shape}")
    if not bool(history.observation.isfinite().all() & history.action.isfinite().all()):
        raise ValueError("the history holds NaN or inf in observations or actions")
    if horizon < 1:
        raise ValueError(f"horizon is {horizon}; expected at least 1")
