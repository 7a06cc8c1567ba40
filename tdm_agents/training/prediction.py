"""Prediction error: how far imagined steps are from recorded ones, in units of the data's spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tdm_agents.data.moments import moments
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.data.windows import starts as draw_starts
from tdm_agents.protocols import History, WorldModel, looped_rollout

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StartErrors:
    """Errors of ``R`` starting points at each of ``H`` decisions ahead, in standard deviations of the data.

    Attributes:
        observation: ``[R, H]``, root mean square over the observation scalars that ever change; None where
            the model imagines none.
        unchanged: ``[R, H]``, the same of the prediction that no scalar changes from the start on.
        reward: ``[R, H]``, absolute; None where the reward never changes.
    """

    observation: FloatArray | None
    unchanged: FloatArray
    reward: FloatArray | None


def start_errors(
    model: WorldModel[Any],
    trajectories: Trajectories,
    *,
    horizon: int,
    starts: int = 64,
    context_steps: int = 8,
    seed: int = 0,
) -> StartErrors:
    """Imagine recorded actions from recorded starting points; compare with what was recorded.

    The starting points depend on the data and the settings, not on the model, so models can be compared. Of a
    model that imagines no observations only the reward is compared.

    Args:
        model: Any world model; it is imagined with once, in one batch.
        trajectories: Recorded episodes.
        horizon: Decisions ahead, ``H``.
        starts: Distinct starting points, ``R``, all equally likely.
        context_steps: Decisions of history up to and with each; a model that can use fewer gets fewer.
        seed: Of the starting points and of the model's own sampling.

    Raises:
        ValueError: If the data hold fewer starting points.
    """
    device, dtype = model.spec.device, model.spec.dtype
    recorded = draw_starts(trajectories, count=starts, steps=context_steps + horizon, seed=seed).to(device)
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
        state = model.start(history, horizon=horizon)
        actions = recorded.action[:, now : now + horizon]  # [R, H, m]
        imagined = looped_rollout(model, state, actions, generator=generator)
    episodes = [trajectories.episode(e) for e in range(trajectories.num_episodes)]
    _, spread = moments(e.observation for e in episodes)  # [n]
    moves = spread > 1e-8
    after = _array(recorded.observation[:, context_steps:])[..., moves]  # [R, H, n']

    def error(predicted: FloatArray) -> FloatArray:
        # what overflows is infinitely wrong, which is for whoever reads the error to say
        with np.errstate(over="ignore", invalid="ignore"):
            squared: FloatArray = np.square((predicted - after) / spread[moves])
            return np.asarray(np.sqrt(squared.mean(-1)) if moves.any() else squared.sum(-1), np.float64)

    _, reward_spread = moments(e.reward[np.isfinite(e.reward)] for e in episodes)  # []
    return StartErrors(
        observation=None if imagined.observation is None else error(_array(imagined.observation)[..., moves]),
        unchanged=error(_array(recorded.observation[:, now : now + 1])[..., moves]),
        reward=np.abs(_array(imagined.reward - recorded.reward[:, context_steps:])) / reward_spread
        if reward_spread > 0
        else None,
    )


def prediction_error(
    model: WorldModel[Any],
    trajectories: Trajectories,
    *,
    horizons: Sequence[int] = (1, 5, 10, 25),
    starts: int = 64,
    context_steps: int = 8,
    seed: int = 0,
) -> dict[str, float]:
    """The errors of :func:`start_errors` at some horizons, summed up over the starting points.

    Args:
        model: See :func:`start_errors`.
        trajectories: Recorded episodes.
        horizons: Decisions ahead.
        starts: Distinct starting points.
        context_steps: Decisions of history up to and with each.
        seed: Of the starting points and of the model's own sampling.

    Returns:
        For every horizon ``h``: ``rms@h`` (root mean square over starting points) and ``median@h`` (median
        over them), not there where no observations are imagined; and ``reward_rms@h`` (of the reward at
        ``h``; not there where the reward never changes).

    Raises:
        ValueError: If the data hold too few starting points.
    """
    errors = start_errors(
        model,
        trajectories,
        horizon=max(horizons),
        starts=starts,
        context_steps=context_steps,
        seed=seed,
    )
    result: dict[str, float] = {}
    if errors.observation is not None:
        for h in horizons:
            result[f"rms@{h}"] = root_mean_square(errors.observation[:, h - 1])
            result[f"median@{h}"] = float(np.median(errors.observation[:, h - 1]))
    if errors.reward is not None:
        for h in horizons:
            result[f"reward_rms@{h}"] = root_mean_square(errors.reward[:, h - 1])
    return result


def root_mean_square(values: FloatArray) -> float:
    """Of any number of values."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.sqrt(np.square(values).mean()))


def _array(tensor: torch.Tensor) -> FloatArray:
    return np.asarray(tensor.cpu().double().numpy())
