"""Rollouts that stop imagining rows whose episode has ended."""

from __future__ import annotations

import torch
from torch import Tensor

from tdm_agents.protocols import Rollout, Step
from tdm_agents.protocols.values import LEAST_SURVIVAL
from tdm_agents.world_models.transformer.decoding.decoder import Decoder
from tdm_agents.world_models.transformer.decoding.imagine import imagine
from tdm_agents.world_models.transformer.decoding.state import TransformerState


@torch.no_grad()
def rollout_while_alive(
    decoder: Decoder,
    state: TransformerState,
    actions: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Rollout:
    """A rollout step by step, of those rows that are alive. Consumes ``state``.

    Rows that have ended, or probably have, are dropped once they are half of those imagined. Draws are made
    for all rows, so that the rows that go on see the same ones. A row that was dropped stands still and earns
    0; in the final state, another row takes its place.

    Args:
        decoder: The decoder of a model whose episodes end.
        state: ``N`` rows.
        actions: ``[N, H, m]``.
        generator: Source of the draws, with ``read="sample"``.

    Raises:
        RuntimeError: If ``state`` was consumed, or fewer than ``H`` steps may be imagined from it.
    """
    rows, horizon = actions.shape[:2]
    state.check_usable()
    state.check_horizon(horizon)
    going = torch.arange(rows, device=actions.device)  # rows that are imagined
    alive = torch.ones_like(going, dtype=torch.bool)
    observation = state.observation
    lived = torch.ones_like(observation[:, 0])  # probability of having survived
    steps: list[Step] = []
    for time in range(horizon):
        reward, survival = torch.zeros_like(lived), torch.zeros_like(lived)
        draws = decoder.draws(rows, generator)
        if len(going):
            state = state.consume()
            step = imagine(decoder, state, actions[going, time], None if draws is None else draws[going])
            assert step.observation is not None
            observation = observation.index_copy(0, going, step.observation)
            reward[going] = step.reward
            alive[going] &= step.alive
            survival[going] = step.alive.to(lived.dtype) if step.survival is None else step.survival
        lived = lived * survival
        steps.append(Step(observation, reward, alive.clone(), survival))
        left = (lived[going] >= LEAST_SURVIVAL).nonzero()[:, 0]
        if 2 * len(left) <= len(going):
            going = going[left]
            if len(going):
                state = state.take(left)
    if state.rows != rows:
        place = torch.zeros_like(alive, dtype=torch.int64)
        place[going] = torch.arange(len(going), device=going.device)
        state = state.take(place)
    return Rollout.of(steps, state)
