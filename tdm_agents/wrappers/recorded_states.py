"""Recorded observations, and how far from all of them another one is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tdm_agents.data.trajectories import Trajectories
from tdm_agents.errors import WrongValueError
from tdm_agents.spaces.goals import goal_columns

MOST = 10_000
"""Recorded observations that are kept."""
USUAL = 0.95
"""Share of the recorded observations that are no further than usual from those of other episodes."""
NEVER_CHANGES = 1e-8
"""Standard deviation up to which a scalar counts as one that never changes."""
_CALIBRATING = 2_000
_CHUNK = 1_024
"""Rows whose distances to all recorded observations are computed at once."""


@dataclass(frozen=True, slots=True, eq=False)
class RecordedStates:
    """Some recorded observations of an environment.

    Distances are Euclidean, with every scalar in units of its standard deviation over the data.

    Attributes:
        observation: ``[K, n]``, recorded observations.
        scale: ``[n]``, standard deviations of all that were recorded; 1 where a scalar never changes, inf of
            a goal.
        usual: Distance to the nearest recorded observation of another episode that 95 % of the data keep.
    """

    observation: Tensor
    scale: Tensor
    usual: float

    @classmethod
    def of(cls, data: Sequence[Trajectories], *, most: int = MOST, seed: int = 0) -> RecordedStates:
        """Observations that are drawn from recorded episodes of one environment; its goal does not count.

        Args:
            data: The episodes.
            most: Number of observations that are kept at most, at least 2.
            seed: Seed of the draw.

        Raises:
            DataError: If the data are of different spaces.
            ValueError: If there are fewer than two episodes, or all observations are alike, or ``most`` is
                less than 2.
        """
        if most < 2:
            raise WrongValueError(f"most is {most}; expected at least 2 observations")
        together = Trajectories.concatenate(data)
        episodes = [episode.observation for episode in together.iterate()]
        if len(episodes) < 2:
            raise WrongValueError(
                f"{len(episodes)} episode was recorded; expected at least 2, since how far apart episodes "
                "are says what is far: record more"
            )
        every = np.concatenate(episodes)  # [all, n]
        owner = np.repeat(np.arange(len(episodes)), [len(episode) for episode in episodes])
        scale = every.std(axis=0, dtype=np.float64)
        scale[scale <= NEVER_CHANGES] = 1.0
        if (goal := goal_columns(together.info.observation_space)) is not None:
            scale[goal] = np.inf  # all differences are 0 of them
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(every))
        kept, asked = order[:most], order[most : most + _CALIBRATING]
        if len(asked) < min(len(kept), _CALIBRATING):  # nearly all are kept: ask about those
            asked = kept[:_CALIBRATING]
        states = cls(
            torch.as_tensor(np.ascontiguousarray(every[kept]), dtype=torch.float32, device="cpu"),
            torch.as_tensor(scale, dtype=torch.float32, device="cpu"),
            1.0,
        )
        near = states._nearest(
            torch.as_tensor(every[asked], dtype=torch.float32, device="cpu"), owner[kept], owner[asked]
        )
        near = near[near.isfinite()]
        if not len(near) or not (usual := float(near.quantile(USUAL))) > 0.0:
            raise WrongValueError(
                "recorded observations of different episodes are all alike; expected some that differ, "
                "since how far apart they are says what is far"
            )
        return replace(states, usual=usual)

    def excess(self, observation: Tensor) -> Tensor:
        """How much further than usual observations ``[N, n]`` are from the nearest recorded one, ``[N]``.

        0 up to the usual distance, 1 at twice that, and NaN for what is not finite.
        """
        distance = self._nearest(observation.float()).to(observation.dtype)
        excess = (distance / self.usual - 1.0).clamp_min(0.0)
        return torch.where(observation.isfinite().all(dim=-1), excess, torch.nan)

    def to(self, device: torch.device) -> RecordedStates:
        """The same on a device."""
        return replace(self, observation=self.observation.to(device), scale=self.scale.to(device))

    def _nearest(
        self,
        observation: Tensor,
        owner: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None,
        asking: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None,
    ) -> Tensor:
        """Distance ``[N]`` to the nearest recorded observation, of another episode where these are given."""
        centre = self.observation.mean(dim=0)  # cdist by matrix products loses precision far from 0
        recorded, found = (self.observation - centre) / self.scale, []
        mode = "use_mm_for_euclid_dist" if owner is None else "donot_use_mm_for_euclid_dist"
        for first in range(0, len(observation), _CHUNK):
            rows = slice(first, first + _CHUNK)
            asked = (observation[rows] - centre) / self.scale
            distance = torch.cdist(asked, recorded, compute_mode=mode)  # [rows, K]
            if owner is not None and asking is not None:
                same = torch.as_tensor(asking[rows, None] == owner[None, :], device=distance.device)
                distance[same] = torch.inf
            found.append(distance.amin(dim=1))
        return torch.cat(found) if found else observation.new_zeros(0)
