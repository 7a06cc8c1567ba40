"""PETS: an ensemble of probabilistic networks, imagined with by sampling trajectories.

Chua et al. 2018, "Deep Reinforcement Learning in a Handful of Trials using Probabilistic Dynamics Models"
(arXiv:1805.12114). ``(o, a) -> (o' - o, r, alive)``: every member predicts normal distributions of the
normalised changes and reward. What the data leave open shows in two ways: as the variance of a member (noise)
and as the spread between members (ignorance).

What differs from the paper: the reward is learned, not given; targets are normalised; episodes may end.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tdm_agents.protocols import Batch, History, ModelSpec, Preset, Rollout, Step, looped_rollout
from tdm_agents.world_models.bootstrap import bootstrap_weights
from tdm_agents.world_models.model_files import read_model, write_model
from tdm_agents.world_models.one_step import OneStepModel, Transitions
from tdm_agents.world_models.pets_config import PRESETS, PETSConfig, Propagation
from tdm_agents.world_models.probabilistic_ensemble import ProbabilisticEnsemble


class PETSState:
    """``N`` rows of ``P`` particles each, with one owner.

    Args:
        observation: ``[N, P, n]``.
        alive: ``[N, P]`` bool; False where a particle's episode has ended.
    """

    __slots__ = ("_parts",)

    def __init__(self, observation: Tensor, alive: Tensor) -> None:
        self._parts: tuple[Tensor, Tensor] | None = observation, alive

    def read(self) -> tuple[Tensor, Tensor]:
        """Observations ``[N, P, n]`` and which particles live ``[N, P]``.

        Raises:
            RuntimeError: If a step has consumed the state.
        """
        if self._parts is None:
            raise RuntimeError(
                "this state was consumed by step() or rollout(): take() its rows first to keep it"
            )
        return self._parts

    def consume(self) -> tuple[Tensor, Tensor]:
        """As :meth:`read`; the state cannot be used any more."""
        parts, self._parts = self.read(), None
        return parts


class PETS(OneStepModel):
    """A probabilistic ensemble behind the :class:`~tdm_agents.protocols.WorldModel` protocol.

    A planner's row is ``particles`` particles inside the state, all of which take the row's action. An
    imagined step is a summary of them: the observation is their mean; the reward is the mean of theirs, in
    which an ended particle counts 0 and stays where it ended; ``alive`` holds while at least half of them
    live. A particle's reward is the mean that its member predicts, because noise would cancel anyway.

    Args:
        spec: What it models. ``history_steps`` becomes 1; the device is where the module is moved to.
        config: Its settings.
        seed: Of the initial weights.
    """

    config_type: ClassVar[type[PETSConfig]] = PETSConfig

    def __init__(self, spec: ModelSpec, config: PETSConfig | None = None, *, seed: int = 0) -> None:
        super().__init__(spec)
        self.config = config if config is not None else PETSConfig()
        self.ensemble = ProbabilisticEnsemble(
            members=self.config.members,
            inputs=self.input_dim,
            outputs=spec.observation_dim + 1,
            hidden=self.config.hidden,
            layers=self.config.layers,
            seed=seed,
        )

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """Small, and the paper's; the paper trains with Adam at a learning rate of 1e-3."""
        return PRESETS

    def decays(self, parameter: nn.Parameter) -> bool:
        """Whether weight decay is for this parameter: for the members' matrices, not for their biases."""
        return parameter.ndim == 3

    def with_sampling(self, *, particles: int | None = None, propagation: Propagation | None = None) -> PETS:
        """The same weights, shared, with other particles.

        Args:
            particles: Per row; None = as many as now.
            propagation: Which members they follow; None = as now.

        Raises:
            ValueError: If a setting makes no sense.
        """
        other = copy.copy(self)
        other.config = replace(
            self.config,
            particles=self.config.particles if particles is None else particles,
            propagation=propagation or self.config.propagation,
        )
        return other

    def distribution(self, observation: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What every member predicts.

        Args:
            observation: ``[R, n]``, or ``[E, R, n]`` where every member has its own.
            action: Likewise, ``m``.

        Returns:
            Means and log-variances of normalised changes and reward ``[E, R, n + 1]``, logits of alive
            ``[E, R]``.
        """
        predicted: tuple[Tensor, Tensor, Tensor] = self.ensemble(self.inputs(observation, action))
        return predicted

    def forward(
        self, batch: Batch, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Negative log-likelihood, summed over the members, with the penalty of the bounds.

        In training every member weighs the transitions by how often they are in its bootstrap sample, as in
        the paper; see :mod:`tdm_agents.world_models.bootstrap`.

        Args:
            batch: Windows of at least two steps.
            generator: None = held-out evaluation, in which all transitions count alike. Nothing is drawn.

        Raises:
            ValueError: If the batch holds no transition.
        """
        some = Transitions.of(batch)
        target = self.targets(some)  # [R, n+1]
        mean, log_variance, logit = self.distribution(some.now, some.action)
        weight = torch.ones_like(logit)  # [E, R]
        if generator is not None:
            weight = self._bootstrapped(some)
        counts = _counts(some, weight) if batch.counts is None else batch.counts
        moves, rewards = counts[1:].clamp(min=1).chunk(2)  # [E]
        surprise = (target - mean).square() * torch.exp(-log_variance) + log_variance  # [E, R, n+1]
        observation = (surprise[..., :-1].mean(-1) * weight).sum(1) / moves
        reward = (surprise[..., -1] * (weight * some.known)).sum(1) / rewards
        n = target.shape[1] - 1
        likelihood = ((n * observation + reward) / (n + 1)).sum()
        total = likelihood + batch.share * self.config.bound_penalty * self.ensemble.width_of_bounds()
        metrics = {
            "observation": observation.mean().detach(),
            "reward": reward.mean().detach(),
            "log_variance": log_variance.mean((0, 2)).sum().detach() / counts[0],
        }
        if self._spec.terminates:
            lives = some.alive.float().expand_as(logit)
            error = F.binary_cross_entropy_with_logits(logit, lives, reduction="none")
            ends = (error * weight).sum(1) / moves
            total, metrics["alive"] = total + ends.sum(), ends.mean().detach()
        return total, metrics

    def counts(self, batch: Batch) -> Tensor:
        """Transitions, and the weights of transitions and of known rewards per member, ``[1 + 2 E]``."""
        some = Transitions.of(batch)
        return _counts(some, self._bootstrapped(some))

    def _bootstrapped(self, some: Transitions) -> Tensor:
        """How often each transition is in each member's sample, ``[E, R]``."""
        whole = torch.cat([some.now, some.action.to(some.now), some.after], -1)
        return bootstrap_weights(whole, self.config.members)

    def start(self, history: History, *, horizon: int) -> PETSState:
        """All particles of ``B`` rows at their present observations; ``horizon`` does not matter."""
        present = history.observation[:, -1].to(self.observation_mean)  # [B, n]
        particles = present[:, None].repeat(1, self.config.particles, 1)
        return PETSState(particles, torch.ones_like(particles[..., 0], dtype=torch.bool))

    @torch.no_grad()
    def step(
        self, state: PETSState, action: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[PETSState, Step]:
        """One transition of ``N`` rows; ``action`` is ``[N, m]``. Consumes ``state``.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        now, alive = state.consume()
        rows, particles, n = now.shape
        if self.config.propagation == "ts1":
            deal = torch.rand(
                (rows, particles), generator=generator, device=now.device, dtype=torch.float32
            ).argsort(1)
            now, alive = now.gather(1, deal[..., None].expand(-1, -1, n)), alive.gather(1, deal)
        noise = torch.randn((rows, particles, n), generator=generator, device=now.device, dtype=torch.float32)
        every = action[:, None].expand(-1, particles, -1)
        mean, log_variance, logit = self.distribution(self._by_member(now), self._by_member(every))
        change = mean[..., :-1] + torch.exp(0.5 * log_variance[..., :-1]) * self._by_member(noise)
        outputs = self._by_row(torch.cat([change, mean[..., -1:], logit[..., None]], -1), rows)
        after, reward = self.outcome(now, outputs[..., :-1])  # [N, P, n], [N, P]
        if self._spec.terminates:
            after = torch.where(alive[..., None], after, now)
            reward = torch.where(alive, reward, 0.0)
            alive = alive & (outputs[..., -1] > 0)
        lives = alive.float().mean(1) >= 0.5
        return PETSState(after, alive), Step(after.mean(1), reward.mean(1), lives)

    def take(self, state: PETSState, rows: Tensor) -> PETSState:
        """A new state of the rows (int64 ``[N']``, repeats allowed); ``state`` stays usable.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        observation, alive = state.read()
        return PETSState(observation[rows], alive[rows])

    def rollout(
        self, state: PETSState, actions: Tensor, *, generator: torch.Generator | None = None
    ) -> Rollout:
        """``H`` steps; ``actions`` is ``[N, H, m]``. Consumes ``state``."""
        return looped_rollout(self, state, actions, generator=generator)

    def row_bytes(self, state: PETSState, *, horizon: int) -> int:
        """Bytes per row: the activations of its particles in one step, and ``horizon`` imagined steps.

        Args:
            state: Any.
            horizon: Steps that are imagined.
        """
        n, inputs, hidden = self._spec.observation_dim, self.input_dim, self.config.hidden
        outputs = 2 * n + 3
        # what stands side by side: a layer's inputs, sums and swish; or, at the end, parts of the outputs
        widest = max(inputs + 2 * hidden, min(self.config.layers, 2) * hidden + hidden, 6 * outputs)
        particle = 4 * n + self._spec.action_dim + widest + 1  # state, copy, noise and their like
        step = n + self._spec.action_dim + 2
        return int(4 * (self.config.particles * particle + 2 * horizon * step))  # the list and its stack

    def save(self, folder: Path | str) -> None:
        """Write ``weights.safetensors``, then ``model.json``, which holds the hash of the weights."""
        write_model(folder, "pets", self, spec=self._spec, config=self.config)

    @classmethod
    def load(cls, folder: Path | str, device: torch.device | str = "cpu") -> Self:
        """The model that :meth:`save` wrote, on ``device``, ready to plan with.

        Raises:
            CheckpointError: If a file is missing, altered, of another type or does not fit its JSON.
        """
        return read_model(folder, "pets", lambda spec, config: cls(spec, PETSConfig(**config)), device=device)

    def _by_member(self, x: Tensor) -> Tensor:
        """``[N, P, d]`` to ``[E, N P / E, d]``: the first ``P / E`` particles are the first member's."""
        rows, _, width = x.shape
        return x.reshape(rows, self.config.members, -1, width).transpose(0, 1).flatten(1, 2)

    def _by_row(self, x: Tensor, rows: int) -> Tensor:
        """The inverse of :meth:`_by_member`."""
        return x.reshape(len(x), rows, -1, x.shape[-1]).transpose(0, 1).flatten(1, 2)


def _counts(some: Transitions, weight: Tensor) -> Tensor:
    """The number of transitions, and what their weights ``[E, R]`` add up to: ``[1 + 2 E]``."""
    return torch.cat([weight.new_tensor([len(some.known)]), weight.sum(1), (weight * some.known).sum(1)])
