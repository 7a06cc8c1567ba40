"""Distributions from which shooting planners draw their candidates, one for each kind of action."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from tdm_agents.protocols import ModelSpec
from tdm_planners.bounds import within_bounds
from tdm_planners.carry import ShootingCarry
from tdm_planners.noise import white_noise

Noise = Callable[[tuple[int, ...], torch.Generator, torch.dtype], Tensor]
"""A function that draws noise ``[..., H, m]`` of a shape, from a generator, in a dtype."""


def white(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """White noise, in the form of :data:`Noise`."""
    return white_noise(shape, generator=generator, dtype=dtype)


class Distribution(Protocol):
    """A distribution over action sequences ``[H, m]`` for each of ``B`` environments."""

    @property
    def centre(self) -> Tensor:
        """The sequence that represents the distribution, ``[B, H, m]``."""
        ...

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` sequences per environment, ``[B, count, H, m]``; continuous ones may leave [-1, 1].

        The number of draws from the generator does not depend on the distribution's parameters.
        """
        ...

    def refit(self, candidates: Tensor, weights: Tensor) -> Distribution:
        """The distribution of the next iteration.

        Args:
            candidates: ``[B, K, H, m]``, inside their bounds.
            weights: ``[B, K]``, which sum to 1 over ``K``.
        """
        ...

    def disturbed(self, sequence: Tensor, generator: torch.Generator) -> Tensor:
        """``sequence`` ``[B, H, m]`` as the distribution would vary it, inside its bounds."""
        ...

    def stats(self) -> Mapping[str, float]:
        """The width of the distribution, for :attr:`tdm_agents.protocols.Plan.stats`."""
        ...


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A distribution of continuous actions: noise of unit variance, scaled and shifted.

    Attributes:
        mean: ``[B, H, m]``, the mean.
        std: ``[B, H, m]``, the standard deviation.
        noise: The noise that is scaled.
        momentum: Share of the old mean and standard deviation in the refitted ones; 1 never refits.
        floor: Smallest refitted standard deviation.
        ceiling: Largest refitted standard deviation.
    """

    mean: Tensor
    std: Tensor
    noise: Noise = white
    momentum: float = 0.0
    floor: float = 0.0
    ceiling: float = math.inf

    @property
    def centre(self) -> Tensor:
        """The mean."""
        return self.mean

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """``mean + std * noise``."""
        mean, std = self.mean[:, None], self.std[:, None]
        shape = (mean.shape[0], count, *mean.shape[2:])
        return mean + std * self.noise(shape, generator, mean.dtype)

    def refit(self, candidates: Tensor, weights: Tensor) -> Gaussian:
        """The Gaussian with the weighted mean and standard deviation of each step and action scalar.

        The standard deviation is refitted as in TD-MPC2 (Hansen et al. 2024, arXiv:2310.16828, section 3.2);
        MPPI as first published (Williams et al. 2017) leaves it as it is.
        """
        if self.momentum == 1.0:
            return self
        share = weights[:, :, None, None]
        mean = (share * candidates).sum(dim=1)  # [B, H, m]
        std = (share * (candidates - mean[:, None]).square()).sum(dim=1).sqrt()
        if self.momentum > 0.0:
            mean = torch.lerp(mean, self.mean, self.momentum)
            std = torch.lerp(std, self.std, self.momentum)
        return replace(self, mean=mean, std=std.clamp(self.floor, self.ceiling))

    def disturbed(self, sequence: Tensor, generator: torch.Generator) -> Tensor:
        """``sequence`` with the distribution's noise around it, inside [-1, 1]."""
        noise = self.noise(tuple(sequence.shape), generator, sequence.dtype)
        return within_bounds(sequence + self.std * noise)

    def stats(self) -> Mapping[str, float]:
        """``sample_std``, the mean standard deviation."""
        return {"sample_std": self.std.mean().item()}


@dataclass(frozen=True, slots=True)
class Categorical:
    """A distribution of discrete actions, with independent components and steps.

    Attributes:
        probabilities: ``[B, H, m, C]``, where ``C`` is the largest number of choices of a component;
            0 beyond a component's own choices.
        uniform: ``[m, C]``, the same for all choices of a component.
        momentum: Share of the old probabilities in the refitted ones; 1 never refits.
        floor: Share of uniform choices in the refitted distribution.
    """

    probabilities: Tensor
    uniform: Tensor
    momentum: float = 0.0
    floor: float = 0.0

    @staticmethod
    def around(
        sequence: Tensor,
        spec: ModelSpec,
        *,
        uniform_share: Tensor,
        momentum: float = 0.0,
        floor: float = 0.0,
    ) -> Categorical:
        """A distribution of the choices of ``sequence`` ``[B, H, m]``, mixed with uniform ones.

        Args:
            sequence: The choices, int64.
            spec: Spec of the model, with the number of choices of each component.
            uniform_share: ``[B]``, in [0, 1]; 1 ignores the sequence.
            momentum: See the attribute.
            floor: See the attribute.
        """
        choices = torch.tensor(spec.action_choices, device=sequence.device)
        exists = torch.arange(int(choices.max()), device=sequence.device) < choices[:, None]
        uniform = exists.to(spec.dtype) / choices[:, None]  # [m, C]
        certain = torch.nn.functional.one_hot(sequence, uniform.shape[1]).to(spec.dtype)
        share = uniform_share.to(spec.dtype)[:, None, None, None]
        return Categorical((1.0 - share) * certain + share * uniform, uniform, momentum, floor)

    @property
    def centre(self) -> Tensor:
        """The likeliest choice of each component."""
        return self.probabilities.argmax(dim=-1)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Choices, int64, drawn by the inverse of each cumulative distribution at a uniform number."""
        batch, *sequence, _ = self.probabilities.shape
        draws = torch.rand(
            (batch, *sequence, count),
            generator=generator,
            device=generator.device,
            dtype=self.probabilities.dtype,
        )
        cumulative = self.probabilities.cumsum(dim=-1)
        chosen = torch.searchsorted(cumulative, draws * cumulative[..., -1:], right=True)
        last = (self.uniform > 0.0).sum(dim=-1, keepdim=True) - 1  # a draw may round up to 1
        return torch.minimum(chosen, last).movedim(-1, 1).contiguous()

    def refit(self, candidates: Tensor, weights: Tensor) -> Categorical:
        """The distribution with the weighted frequencies of each choice."""
        if self.momentum == 1.0:
            return self
        index = candidates.movedim(1, -1)  # [B, H, m, K]
        share = weights[:, None, None, :].expand(index.shape).to(self.probabilities.dtype)
        fitted = torch.zeros_like(self.probabilities).scatter_add(-1, index, share)
        fitted = torch.lerp(fitted, self.probabilities, self.momentum)
        return replace(self, probabilities=(1.0 - self.floor) * fitted + self.floor * self.uniform)

    def disturbed(self, sequence: Tensor, generator: torch.Generator) -> Tensor:
        """A draw from the distribution, which knows nothing of a single ``sequence``."""
        return self.sample(1, generator)[:, 0]

    def stats(self) -> Mapping[str, float]:
        """``sample_entropy``, the mean entropy as a share of that of uniform choices (1 for one choice)."""
        entropy = torch.special.entr(self.probabilities).sum(dim=-1)
        most = torch.special.entr(self.uniform).sum(dim=-1)
        return {"sample_entropy": torch.where(most > 0.0, entropy / most, 1.0).mean().item()}


def around(
    memory: ShootingCarry,
    spec: ModelSpec,
    *,
    std: float = 0.7,
    std_floor: float = 0.05,
    uniform_start: float = 0.5,
    uniform_floor: float = 0.05,
    momentum: float = 0.0,
    noise: Noise = white,
) -> Distribution:
    """The distribution around a remembered plan that fits the kind of action.

    Args:
        memory: Memory of ``B`` environments; where no plan is known, the mean is 0, or choices are uniform.
        spec: Spec of the model.
        std: Continuous actions: first standard deviation, and the largest refitted one.
        std_floor: Continuous actions: smallest refitted standard deviation.
        uniform_start: Discrete actions: share of uniform choices around a known plan.
        uniform_floor: Discrete actions: share of uniform choices in the refitted distribution.
        momentum: Share of the old distribution in the refitted one.
        noise: Continuous actions: the noise that is scaled.
    """
    if spec.action_kind == "discrete":
        share = torch.ones_like(memory.known, dtype=spec.dtype).masked_fill(memory.known, uniform_start)
        return Categorical.around(
            memory.mean, spec, uniform_share=share, momentum=momentum, floor=uniform_floor
        )
    deviation = torch.full_like(memory.mean, std)
    return Gaussian(memory.mean, deviation, noise, momentum, std_floor, ceiling=std)
