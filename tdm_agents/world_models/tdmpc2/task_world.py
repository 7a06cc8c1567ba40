"""One of the tasks of a TD-MPC2 of several: a world model of its own environment over shared networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tdm_agents.protocols import Batch, ModelSpec
from tdm_agents.world_models.tdmpc2.latent_world import LatentWorld, RoundedNetworks
from tdm_agents.world_models.tdmpc2.sizes import TDMPC2Config, discount_of


class TaskWorld(LatentWorld, nn.Module):
    """The world model of a task, in the sizes of its own environment.

    Observations and actions are filled up with zeros to what the networks read. Candidates of planners have
    the environment's own action scalars, so what the task has no actuator for is 0 in imagination too.

    Args:
        owner: The model of all tasks.
        number: Of the task.
        spec: Of its environment.
        imagining: The networks to imagine with, shared by the tasks.

    Attributes:
        number: Of the task.
    """

    def __init__(self, owner: Any, number: int, spec: ModelSpec, imagining: RoundedNetworks) -> None:
        super().__init__()
        self.config: TDMPC2Config = owner.config
        self.networks = owner.networks
        self._owner = (owner,)  # a tuple, so that it is no part of the module
        self.number, self._spec, self._imagining = number, spec, imagining

    @property
    def spec(self) -> ModelSpec:
        """Spaces, sizes, time step, and the device of the weights."""
        return replace(self._spec, device=self.discount.device)

    @property
    def discount(self) -> Tensor:
        """Factor per decision on later rewards, a scalar."""
        discounts: Tensor = self._owner[0].discount
        return discounts[self.number]

    def expect(self, decisions: int) -> None:
        """Set the discount for episodes of at most ``decisions``, unless the settings say what it is."""
        if self.config.discount is None:
            self.discount.fill_(discount_of(decisions))

    def forward(
        self, batch: Batch, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The model's loss on windows of this environment alone."""
        loss: tuple[Tensor, Mapping[str, Tensor]] = self._owner[0].loss_of(
            {self.number: batch}, generator=generator
        )
        return loss

    def _task(self, rows: int) -> Tensor | None:
        return torch.full((rows,), self.number, dtype=torch.int64, device=self.discount.device)

    def _widened(self, x: Tensor, width: int) -> Tensor:
        return F.pad(x, (0, width - x.shape[-1]))
