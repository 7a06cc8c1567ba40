"""Where shooting planners draw their candidates from: one distribution for each kind of action."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from tdm_agents.protocols import ModelSpec

Noise = Callable[[tuple[int, ...], torch.Generator, torch.dtype], Tensor]
"""Draws ``[..., H, m]`` of a shape, from a generator, in a dtype."""


class Distribution(Protocol):
    """Over action sequences ``[H, m]`` of each of ``B`` environments."""

    @property
    def centre(self) -> Tensor:
        """The sequence that stands for the distribution, ``[B, H, m]``."""
        ...

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` sequences an environment, ``[B, count, H, m]``; continuous ones may leave [-1, 1].

        How much of the generator is used does not depend on the distribution's parameters.
        """
        ...

    def stats(self) -> Mapping[str, float]:
        """How wide it is, for :attr:`tdm_agents.protocols.Plan.stats`."""
        ...


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Continuous actions: noise of unit variance, scaled and shifted.

    Attributes:
        mean: ``[B, H, m]``.
        std: ``[B, H, m]``.
        noise: What is scaled.
    """

    mean: Tensor
    std: Tensor
    noise: Noise

    @property
    def centre(self) -> Tensor:
        """The mean."""
        return self.mean

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """``mean + std * noise``."""
        mean, std = self.mean[:, None], self.std[:, None]
        shape = (mean.shape[0], count, *mean.shape[2:])
        return mean + std * self.noise(shape, generator, mean.dtype)

    def refit(
        self, candidates: Tensor, weights: Tensor, *, momentum: float, floor: float, ceiling: float
    ) -> Gaussian:
        """Weighted mean and standard deviation of each step and action scalar.

        Args:
            candidates: ``[B, K, H, m]``.
            weights: ``[B, K]``, sums to 1 over ``K``.
            momentum: Share of the old mean and standard deviation in the new ones.
            floor: Least standard deviation.
            ceiling: Greatest.
        """
        share = weights[:, :, None, None]
        mean = (share * candidates).sum(dim=1)  # [B, H, m]
        std = (share * (candidates - mean[:, None]).square()).sum(dim=1).sqrt()
        if momentum > 0.0:
            mean = torch.lerp(mean, self.mean, momentum)
            std = torch.lerp(std, self.std, momentum)
        return replace(self, mean=mean, std=std.clamp(floor, ceiling))

    def stats(self) -> Mapping[str, float]:
        """``sample_std``, the mean standard deviation."""
        return {"sample_std": self.std.mean().item()}


@dataclass(frozen=True, slots=True)
class Categorical:
    """Discrete actions: each component of each step drawn by itself.

    Attributes:
        probabilities: ``[B, H, m, C]``, ``C`` the most choices of any component; 0 beyond its own.
        uniform: ``[m, C]``, the same for all choices of a component.
    """

    probabilities: Tensor
    uniform: Tensor

    @staticmethod
    def around(sequence: Tensor, spec: ModelSpec, *, uniform_share: Tensor) -> Categorical:
        """The choices of ``sequence`` ``[B, H, m]``, mixed with uniform ones.

        Args:
            sequence: int64.
            spec: Says how many choices each component has.
            uniform_share: ``[B]``, in [0, 1]; 1 ignores the sequence.
        """
        choices = torch.tensor(spec.action_choices, device=sequence.device)
        exists = torch.arange(int(choices.max()), device=sequence.device) < choices[:, None]
        uniform = exists.to(spec.dtype) / choices[:, None]  # [m, C]
        certain = torch.nn.functional.one_hot(sequence, uniform.shape[1]).to(spec.dtype)
        share = uniform_share.to(spec.dtype)[:, None, None, None]
        return Categorical((1.0 - share) * certain + share * uniform, uniform)

    @property
    def centre(self) -> Tensor:
        """The likeliest choice of each component."""
        return self.probabilities.argmax(dim=-1)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Choices, int64: the inverse of each cumulative distribution at a uniform number."""
        batch, *sequence, _ = self.probabilities.shape
        draws = torch.rand(
            (batch, *sequence, count),
            generator=generator,
            device=generator.device,
            dtype=self.probabilities.dtype,
        )
        cumulative = self.probabilities.cumsum(dim=-1)
        chosen = torch.searchsorted(cumulative, draws * cumulative[..., -1:], right=True)
        last = (self.uniform > 0.0).sum(dim=-1, keepdim=True) - 1  # a draw may round up to the whole
        return torch.minimum(chosen, last).movedim(-1, 1).contiguous()

    def refit(self, candidates: Tensor, weights: Tensor, *, momentum: float, floor: float) -> Categorical:
        """Weighted frequencies of each choice.

        Args:
            candidates: ``[B, K, H, m]``.
            weights: ``[B, K]``, sums to 1 over ``K``.
            momentum: Share of the old probabilities in the new ones.
            floor: Share of uniform choices in what results.
        """
        index = candidates.movedim(1, -1)  # [B, H, m, K]
        share = weights[:, None, None, :].expand(index.shape).to(self.probabilities.dtype)
        fitted = torch.zeros_like(self.probabilities).scatter_add(-1, index, share)
        fitted = torch.lerp(fitted, self.probabilities, momentum)
        return replace(self, probabilities=(1.0 - floor) * fitted + floor * self.uniform)

    def stats(self) -> Mapping[str, float]:
        """``sample_entropy``, the mean entropy as a share of uniform choices' (1 if there is one choice)."""
        entropy = torch.special.entr(self.probabilities).sum(dim=-1)
        most = torch.special.entr(self.uniform).sum(dim=-1)
        return {"sample_entropy": torch.where(most > 0.0, entropy / most, 1.0).mean().item()}
