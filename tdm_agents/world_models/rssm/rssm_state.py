"""What a recurrent state-space model knows while it imagines."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(slots=True)
class RSSMState:
    """``N`` rows with one owner.

    Attributes:
        parts: The recurrent state ``[N, D]`` and the latents ``[N, S * C]``; None once consumed.
    """

    parts: tuple[Tensor, Tensor] | None

    def read(self) -> tuple[Tensor, Tensor]:
        """The recurrent state and the latents.

        Raises:
            RuntimeError: If a step has consumed them.
        """
        if self.parts is None:
            raise RuntimeError("this state was consumed by step(): take() its rows first to keep it")
        return self.parts

    def consume(self) -> tuple[Tensor, Tensor]:
        """The same for the last time; the state cannot be used any more."""
        parts, self.parts = self.read(), None
        return parts

    def take(self, rows: Tensor) -> RSSMState:
        """A copy of the rows, int64 ``[N']``."""
        deterministic, latent = self.read()
        return RSSMState((deterministic[rows], latent[rows]))

    def feature(self) -> Tensor:
        """What decoder and heads read, ``[N, D + S * C]``."""
        return torch.cat(self.read(), -1)
