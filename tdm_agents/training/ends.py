"""Prediction of ends: whether a world model foresees those that were recorded, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tdm_agents.data.trajectories import Trajectories
from tdm_agents.protocols import History, WorldModel, rollout

Points = list[tuple[int, int]]
"""Starting points: episodes, and steps in them."""


def end_prediction(
    model: WorldModel[Any],
    trajectories: Trajectories,
    *,
    horizons: Sequence[int] = (1, 5, 10, 25),
    starts: int = 64,
    context_steps: int = 8,
    seed: int = 0,
) -> dict[str, float]:
    """Imagine recorded actions that led to a recorded termination, and others that did not.

    Ends are rare, so the accuracy over all steps would say little, and both kinds are measured apart. Either
    mistake harms a planner: it walks into an end that it does not foresee, or avoids one that does not exist.

    Args:
        model: Any world model.
        trajectories: Recorded episodes; those that were cut off count as alive.
        horizons: Numbers of decisions ahead.
        starts: Largest number of starting points per kind and horizon.
        context_steps: Largest number of decisions of history, the starting point included; a model that can
            use fewer gets fewer.
        seed: Seed of the starting points and of the model's own sampling.

    Returns:
        For every horizon ``h``: ``foreseen@h``, the share of recorded ends that the model predicts when it
        imagines from ``h`` decisions before; and ``false_ends@h``, the share of starting points at which it
        predicts an end within ``h`` decisions although none was recorded. A number that has no starting
        points is left out.
    """
    rng = np.random.default_rng(seed)
    lengths = trajectories.episodes[:, 2] - 1  # decisions
    ended = np.array([not trajectories.episode(e).alive[-1] for e in range(len(lengths))])
    context = min(context_steps, model.spec.history_steps)
    generator = torch.Generator(device=model.spec.device).manual_seed(int(seed))
    result: dict[str, float] = {}
    for h in horizons:
        before = [(int(e), int(lengths[e]) - h) for e in np.flatnonzero(ended & (lengths >= h))]
        # an episode that ends is alive one decision shorter
        spare = np.maximum(lengths - ended - h + 1, 0)
        possible = int(spare.sum())
        number = rng.choice(possible, size=min(starts, possible), replace=False)
        episode = np.searchsorted(np.cumsum(spare), number, side="right")
        elsewhere = [(int(e), int(i - spare[:e].sum())) for e, i in zip(episode, number, strict=True)]
        chosen = [before[i] for i in rng.permutation(len(before))[:starts]]
        for name, points in (("foreseen", chosen), ("false_ends", elsewhere)):
            if points:
                dead = _ended_within(model, trajectories, points, h, context, generator)
                result[f"{name}@{h}"] = float(dead.mean())
    return result


def _ended_within(
    model: WorldModel[Any],
    trajectories: Trajectories,
    points: Points,
    horizon: int,
    context: int,
    generator: torch.Generator,
) -> npt.NDArray[np.bool_]:
    """Whether the model is dead ``horizon`` recorded actions after each point."""
    spec = model.spec
    batch = len(points)
    made: dict[str, Any] = {"device": "cpu", "dtype": torch.float32}
    observation = torch.zeros(batch, context, spec.observation_dim, **made)
    reward = torch.full((batch, context), torch.nan, **made)
    action_dtype = torch.int64 if spec.action_kind == "discrete" else torch.float32
    action = torch.zeros(batch, context - 1 + horizon, spec.action_dim, dtype=action_dtype, device="cpu")
    length = torch.zeros(batch, dtype=torch.int64, device="cpu")
    for row, (index, now) in enumerate(points):
        steps = trajectories.episode(index)
        known = min(now + 1, context)
        past = slice(now + 1 - known, now + 1)
        observation[row, context - known :] = torch.from_numpy(steps.observation[past].copy())
        reward[row, context - known :] = torch.from_numpy(steps.reward[past].copy())
        taken = steps.action[now + 1 - known : now + horizon]
        action[row, context - known :] = torch.from_numpy(taken.copy())
        length[row] = known
    past_action = action[:, : context - 1]
    history = History(*(part.to(spec.device) for part in (observation, reward, past_action, length)))
    with torch.no_grad():
        state = model.start(history, horizon=horizon)
        imagined = rollout(model, state, action[:, context - 1 :].to(spec.device), generator=generator)
    dead: npt.NDArray[np.bool_] = (~imagined.alive[:, -1]).cpu().numpy()
    return dead
