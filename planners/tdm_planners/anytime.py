"""Imagining against a deadline: how much work fits, and steps that stop when time is up."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tdm_agents.protocols import Deadline, Rollout, Step, WorldModel

LEAST_SAMPLES = 8
"""Candidates below which a planner's work is not cut for a deadline: fewer hardly are a choice."""


def affordable(
    deadline: Deadline,
    *,
    batch: int,
    horizon: int,
    samples: int,
    iterations: int,
    followed: int = 0,
    least: int = LEAST_SAMPLES,
) -> tuple[int, int]:
    """The candidates and iterations that are expected to fit before a deadline.

    Where not all fit, both become fewer by about the same factor, as far as they can.

    Args:
        deadline: The deadline.
        batch: Number of environments.
        horizon: Steps per candidate.
        samples: Candidates per environment and iteration, at most.
        iterations: Iterations, at most.
        followed: Candidates per environment that follow a proposal before the first iteration.
        least: Candidates, at least.
    """

    def seconds(samples: int, iterations: int) -> float:
        return (deadline.pace.expected(batch * samples) or 0.0) * horizon * iterations

    left = max(deadline.spare() - (seconds(followed, 1) if followed else 0.0), 0.0)
    if (needed := seconds(samples, iterations)) <= left:
        return samples, iterations
    least = min(least, samples)
    fewer = max(1, min(iterations, round(iterations * math.sqrt(left / needed))))
    while fewer > 1 and seconds(least, fewer) > left:
        fewer -= 1
    constant, whole = seconds(0, fewer), seconds(samples, fewer)
    if whole <= left or whole == constant:
        return samples, fewer
    return max(least, int(samples * max(left - constant, 0.0) / (whole - constant))), fewer


def candidates_until(
    model: WorldModel[Any],
    state: Any,
    candidates: Tensor,
    *,
    generator: torch.Generator,
    deadline: Deadline,
    first: bool,
) -> Rollout | None:
    """Imagine candidates step by step, for as long as another step is expected to be in time.

    Args:
        model: Any world model.
        state: ``B`` rows; stays usable.
        candidates: ``[B, K, H, m]``.
        generator: Source of randomness of the model.
        deadline: The deadline; its pace learns from every step.
        first: Whether there is no plan yet: then one step is made in any case, and otherwise none where not
            all are expected to be in time.

    Returns:
        The steps that were made, of ``B * K`` rows; None where that is none.
    """
    batch, samples, horizon = candidates.shape[:3]
    rows, actions = batch * samples, candidates.flatten(0, 1)
    if not first and not deadline.allows(rows, horizon):
        return None
    state = model.take(state, torch.arange(batch, device=candidates.device).repeat_interleave(samples))
    steps: list[Step] = []
    for t in range(horizon):
        if not (first and not steps) and not deadline.allows(rows):
            break
        began = deadline.clock()
        state, step = model.step(state, actions[:, t], generator=generator)
        measure(deadline, began, actions[:, t])
        steps.append(step)
    return Rollout.of(steps, state) if steps else None


def measure(deadline: Deadline, began: float, action: Tensor) -> None:
    """Let the deadline's pace learn from the step that ``action`` ``[N, m]`` made since ``began``."""
    if action.is_cuda:
        torch.cuda.synchronize(action.device)  # otherwise only the launch would be timed
    deadline.measured(action.shape[0], began)


def held(actions: Tensor, horizon: int) -> Tensor:
    """Sequences ``[B, t, m]`` with their last action repeated up to ``[B, H, m]``."""
    missing = horizon - actions.shape[1]
    return torch.cat([actions, actions[:, -1:].expand(-1, missing, -1)], dim=1) if missing else actions
