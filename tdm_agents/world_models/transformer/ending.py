"""Rollouts that stop imagining rows whose episode has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tdm_agents.protocols import Rollout, Step
from tdm_agents.world_models.transformer.state import TransformerState

if TYPE_CHECKING:
    from tdm_agents.world_models.transformer.model import TransformerWorldModel


@torch.no_grad()
def rollout_while_alive(
    model: TransformerWorldModel,
    state: TransformerState,
    actions: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Rollout:
    """As steps one by one while rows are alive. Consumes ``state``.

    Once half of the rows that are imagined have ended, they are dropped. Draws are made for all rows, so that
    the others see the same. A row that ended stands still and earns 0; in the state that is left, another
    row stands in for it.

    Args:
        model: That ends episodes.
        state: ``N`` rows.
        actions: ``[N, H, m]``.
        generator: Of a sampling model's draws.

    Raises:
        RuntimeError: As :meth:`TransformerWorldModel.step`.
        ValueError: As :meth:`TransformerWorldModel.step`.
    """
    rows, horizon = actions.shape[:2]
    state.check_usable()
    state.check_horizon(horizon)
    going = torch.arange(rows, device=actions.device)  # those that are imagined
    alive = torch.ones_like(going, dtype=torch.bool)
    observation = state.observation
    steps: list[Step] = []
    for time in range(horizon):
        reward = torch.zeros_like(observation[:, 0])
        uniform = model._uniform(rows, generator)
        if len(going):
            state = state.consume()
            step = model._imagine(state, actions[going, time], None if uniform is None else uniform[going])
            assert step.observation is not None
            observation = observation.index_copy(0, going, step.observation)
            reward[going] = step.reward
            alive[going] &= step.alive
        steps.append(Step(observation, reward, alive.clone()))
        left = alive[going].nonzero()[:, 0]
        if 2 * len(left) <= len(going):
            going = going[left]
            if len(going):
                state = state.take(left)
    if state.rows != rows:
        place = torch.zeros_like(alive, dtype=torch.int64)
        place[going] = torch.arange(len(going), device=going.device)
        state = state.take(place)
    return Rollout.of(steps, state)
