"""Windows of data cut into the short pieces that TD-MPC2 imagines."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from tdm_agents.protocols import Batch


@dataclass(frozen=True, slots=True)
class Pieces:
    """``R`` pieces of ``H`` transitions.

    Attributes:
        observation: ``[R, H + 1, n]``; of bytes where it is nothing but images.
        action: ``[R, H, m]``.
        reward: ``[R, H]``, 0 where unknown.
        alive: ``[R, H]`` bool, after each transition.
        real: ``[R, H]`` bool; False where there was no transition.
        known: ``[R, H]`` bool; real, with a reward.
        reached: ``[R, H + 1]`` bool; states at the ends of real transitions.
        task: ``[R]`` int64, the number of the task; None where there is one.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    alive: Tensor
    real: Tensor
    known: Tensor
    reached: Tensor
    task: Tensor | None = None


def cut(batch: Batch, horizon: int, task: Tensor | None = None) -> Pieces:
    """Pieces of ``horizon`` transitions, neighbours of which share a state; the last may be padded.

    Args:
        batch: ``B`` windows.
        horizon: ``H``.
        task: ``[B]`` int64, the task of each window, where there are several.

    Raises:
        ValueError: If the batch holds no transition.
    """
    transitions = batch.reward.shape[1] - 1
    real = batch.acted[:, :-1] & batch.valid[:, 1:]  # [B, T-1]
    if not real.any():
        raise ValueError("the batch holds no transition: windows need at least 2 steps")
    count = -(-transitions // horizon)
    missing = count * horizon - transitions

    def pieces(x: Tensor) -> Tensor:
        rest = (0, 0) * (x.ndim - 2)
        padded = F.pad(x, (*rest, 0, missing))
        return padded.reshape(-1, horizon, *x.shape[2:])

    # horizon + 1 states each: those before the transitions, and the one after the last
    states = F.pad(batch.observation, (0, 0, 0, missing))
    windows = states.unfold(1, horizon + 1, horizon).movedim(-1, 2).flatten(0, 1)
    real = pieces(real)
    reward = pieces(batch.reward[:, 1:])
    known = real & reward.isfinite()
    return Pieces(
        observation=windows,
        action=pieces(batch.action[:, :-1]),
        reward=reward.where(known, 0.0),
        alive=pieces(batch.alive[:, 1:]),
        real=real,
        known=known,
        reached=F.pad(real, (1, 0)) | F.pad(real, (0, 1)),
        task=None if task is None else task.repeat_interleave(count),
    )
