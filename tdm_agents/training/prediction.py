"""Prediction error: how far imagined steps are from recorded ones, in units of the data's spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tdm_agents.data.moments import moments
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.data.windows import starts as draw_starts
from tdm_agents.protocols import History, WorldModel, looped_rollout


def prediction_error(
    model: WorldModel[Any],
    trajectories: Trajectories,
    *,
    horizons: Sequence[int] = (1, 5, 10, 25),
    starts: int = 64,
    context_steps: int = 8,
    seed: int = 0,
) -> dict[str, float]:
    """Imagine recorded actions from recorded starting points; compare with what was recorded.

    The error of one starting point at one horizon is the root mean square, over the observation scalars, of
    (imagined - recorded) / standard deviation of that scalar in ``trajectories``. Scalars that never change
    are left out. The starting points depend on the data and the settings, not on the model, so models can be
    compared. For a model that imagines no observations, only the reward is compared.

    Args:
        model: Any world model; it imagines once, in one batch.
        trajectories: Recorded episodes.
        horizons: Numbers of decisions ahead.
        starts: Number of distinct starting points, all equally likely.
        context_steps: Decisions of history, the starting point included; a model that can use fewer gets
            fewer.
        seed: Seed of the starting points and of the model's own sampling.

    Returns:
        For every horizon ``h``: ``rms@h`` (root mean square over starting points) and ``median@h`` (median
        over them), left out where no observations are imagined; and ``reward_rms@h`` (of the reward at
        ``h``, in standard deviations of the reward), left out where the reward never changes.

    Raises:
        ValueError: If the data hold too few starting points.
    """
    furthest = max(horizons)
    device, dtype = model.spec.device, model.spec.dtype
    recorded = draw_starts(trajectories, count=starts, steps=context_steps + furthest, seed=seed).to(device)
    now = context_steps - 1
    past = slice(max(0, context_steps - model.spec.history_steps), context_steps)
    history = History(
        observation=recorded.observation[:, past].to(dtype),
        reward=recorded.reward[:, past].to(dtype),
        action=recorded.action[:, past][:, :-1],
        length=torch.full((starts,), past.stop - past.start, dtype=torch.int64, device=device),
    )
    generator = torch.Generator(device=device).manual_seed(int(seed))
    with torch.no_grad():
        state = model.start(history, horizon=furthest)
        actions = recorded.action[:, now : now + furthest]  # [R, H, m]
        imagined = looped_rollout(model, state, actions, generator=generator)
    episodes = [trajectories.episode(e) for e in range(trajectories.num_episodes)]
    result: dict[str, float] = {}
    if imagined.observation is not None:
        _, spread = moments(e.observation for e in episodes)  # [n]
        change = imagined.observation - recorded.observation[:, context_steps:]  # [R, H, n]
        moves = spread > 1e-8
        squared = np.square(change.cpu().double().numpy()[..., moves] / spread[moves]).mean(-1)  # [R, H]
        for h in horizons:
            result[f"rms@{h}"] = float(np.sqrt(squared[:, h - 1].mean()))
            result[f"median@{h}"] = float(np.median(np.sqrt(squared[:, h - 1])))
    _, reward_spread = moments(e.reward[np.isfinite(e.reward)] for e in episodes)  # []
    if reward_spread > 0:
        reward = (imagined.reward - recorded.reward[:, context_steps:]).cpu().double().numpy()  # [R, H]
        for h in horizons:
            result[f"reward_rms@{h}"] = float(np.sqrt(np.square(reward[:, h - 1]).mean()) / reward_spread)
    return result
