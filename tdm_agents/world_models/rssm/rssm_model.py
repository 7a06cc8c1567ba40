"""A recurrent state-space model as a world model: Dreamer V2's dynamics, trained alone.

A recurrent state that follows actions and latents; categorical latents with a prior, which imagines, and a
posterior, which has seen the observation; heads that read both (Hafner et al., arXiv:2010.02193). The actor
and the critic of Dreamer are not here: a planner chooses the actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from tdm_agents.data.moments import moments
from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import (
    Batch,
    History,
    ModelSpec,
    Optimizers,
    Preset,
    Step,
    UpdateSettings,
)
from tdm_agents.world_models.learned import LearnedModel
from tdm_agents.world_models.model_files import read_model, write_model
from tdm_agents.world_models.rssm.filtering import Filtered, filtered
from tdm_agents.world_models.rssm.one_hot import drawn, expected, likeliest, straight_through
from tdm_agents.world_models.rssm.recurrent_networks import RSSMNetworks
from tdm_agents.world_models.rssm.rssm_config import DREAMER_V2, RSSMConfig
from tdm_agents.world_models.rssm.rssm_loss import rssm_losses
from tdm_agents.world_models.rssm.rssm_state import RSSMState

if TYPE_CHECKING:
    from tdm_agents.data.trajectories import Trajectories


class RSSMWorldModel(LearnedModel):
    """Dreamer V2's dynamics behind the :class:`~tdm_agents.protocols.WorldModel` protocol.

    Args:
        spec: What it models. ``history_steps`` becomes ``config.context``.
        config: Its settings.
        seed: Of the initial weights.
    """

    config_type: ClassVar[type[RSSMConfig]] = RSSMConfig

    def __init__(self, spec: ModelSpec, config: RSSMConfig | None = None, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config if config is not None else RSSMConfig()
        self._spec = replace(
            spec,
            history_steps=self.config.context,
            imagines_observations=self.config.imagines_observations,
            dtype=torch.float32,
        )
        n = spec.observation_dim
        actions = sum(spec.action_choices) or spec.action_dim
        self.networks = RSSMNetworks(n, actions, self.config, seed=seed)
        self.observation_mean: Tensor
        self.observation_scale: Tensor
        self.reward_mean: Tensor
        self.reward_scale: Tensor
        self.register_buffer("observation_mean", torch.zeros(n, device="cpu", dtype=torch.float32))
        self.register_buffer("observation_scale", torch.ones(n, device="cpu", dtype=torch.float32))
        self.register_buffer("reward_mean", torch.zeros((), device="cpu", dtype=torch.float32))
        self.register_buffer("reward_scale", torch.ones((), device="cpu", dtype=torch.float32))

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """``default``, for two cores, and ``dreamer-v2``, the sizes and the optimizer of the paper."""
        return {"default": Preset(RSSMConfig()), "dreamer-v2": Preset(DREAMER_V2, action_repeat=2)}

    @property
    def spec(self) -> ModelSpec:
        """Spaces, sizes, time step, and the device of the weights."""
        return replace(self._spec, device=self.observation_mean.device)

    @torch.no_grad()
    def fit(self, data: Mapping[str, Trajectories]) -> None:
        """Set the normalisation of observations and rewards from the data of the one environment.

        Raises:
            ValueError: If the data hold no reward, or observations of another size.
        """
        (trajectories,) = data.values()
        if trajectories.observation_dim != self._spec.observation_dim:
            raise WrongValueError(
                f"the data's observations have {trajectories.observation_dim} scalars; "
                f"the model expects {self._spec.observation_dim}"
            )
        mean, std = moments(e.observation for e in trajectories.iterate())  # [n]
        self.observation_mean.copy_(torch.from_numpy(mean))
        self.observation_scale.copy_(_scale(std))
        mean, std = moments(e.reward[np.isfinite(e.reward)] for e in trajectories.iterate())  # []
        self.reward_mean.fill_(float(mean))
        self.reward_scale.copy_(_scale(std))

    def forward(
        self, batch: Batch, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of :func:`~tdm_agents.world_models.rssm.rssm_loss.rssm_losses` over windows.

        Args:
            batch: Windows of at least two steps, each of which begins with a state of zeros.
            generator: Of the posterior's latents; None takes the mean of each.

        Raises:
            ValueError: If the batch holds no transition.
        """
        if not (batch.valid[:, 1:] & batch.valid[:, :-1]).any():
            raise WrongValueError("the batch holds no transition: windows need at least 2 steps")
        observation = self._normalised(batch.observation)
        sequence = filtered(
            self.networks, observation, self._encode(batch.action), batch.valid, generator=generator
        )
        return rssm_losses(
            self.networks,
            self.config,
            sequence,
            observation=observation,
            reward=(batch.reward - self.reward_mean) / self.reward_scale,
            alive=batch.alive,
            valid=batch.valid,
            terminates=self._spec.terminates,
        )

    def optimizers(self, settings: UpdateSettings) -> Optimizers:
        """The AdamW of the run, or Adam with the model's own constant rate if the settings have one."""
        if self.config.learning_rate is None:
            return super().optimizers(settings)
        parameters = [p for p in self.parameters() if p.requires_grad]
        return {"adam": torch.optim.Adam(parameters, self.config.learning_rate, fused=True)}

    def update(
        self,
        batch: Batch,
        optimizers: Optimizers,
        *,
        step: int,
        settings: UpdateSettings,
        generator: torch.Generator,
    ) -> Mapping[str, float]:
        """One step down the gradient, with what the model's settings say instead of the run's.

        Raises:
            NotFiniteError: If the loss or the gradient is not finite.
        """
        rate, clip = self.config.learning_rate, self.config.grad_clip
        if rate is not None:
            settings = replace(settings, learning_rate=rate, warmup_steps=0, final_learning_rate_fraction=1.0)
        if clip is not None:
            settings = replace(settings, grad_clip=clip)
        return super().update(batch, optimizers, step=step, settings=settings, generator=generator)

    def filter(self, history: History) -> Filtered:
        """Recurrent states and posteriors along ``B`` histories.

        The mean of the latents stands for the latents: it needs no generator, and predicts better than the
        likeliest classes do. Rows begin at the first of their ``length`` entries; earlier ones mean nothing.
        """
        steps = history.observation.shape[1]
        index = torch.arange(steps, device=history.length.device)
        known = index >= steps - history.length[:, None]  # [B, T]
        observation = self._normalised(history.observation.to(self.observation_mean))
        return filtered(self.networks, observation, self._encode(history.action), known)

    @torch.no_grad()
    def start(self, history: History, *, horizon: int) -> RSSMState:
        """The state of ``B`` environments after all of their history; ``horizon`` does not matter."""
        sequence = self.filter(history)
        return RSSMState((sequence.deterministic[:, -1], sequence.latent[:, -1]))

    @torch.no_grad()
    def step(
        self, state: RSSMState, action: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[RSSMState, Step]:
        """One transition of ``N`` rows; ``action`` is ``[N, m]``. Consumes ``state``.

        Args:
            state: ``N`` rows.
            action: Float in [-1, 1] or int64 choices.
            generator: Of the prior's latents, for all rows at once; used where ``config.imagination`` is
                ``"sample"``.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        deterministic, latent = state.consume()
        deterministic = self.networks.recur(deterministic, latent, self._encode(action))
        logits = self.networks.prior(deterministic)
        after = RSSMState((deterministic, self._imagined(logits, generator)))
        return after, self._decoded(after.feature())

    def take(self, state: RSSMState, rows: Tensor) -> RSSMState:
        """A new state of the rows (int64 ``[N']``, repeats allowed); ``state`` stays usable.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        return state.take(rows)

    def _imagined(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.config.imagination == "mean":
            return expected(logits)
        if self.config.imagination == "mode":
            return straight_through(logits, likeliest(logits))
        uniform = torch.rand(
            logits.shape[:-1], generator=generator, device=logits.device, dtype=torch.float32
        )
        return straight_through(logits, drawn(logits, uniform))

    def _decoded(self, feature: Tensor) -> Step:
        observation = None
        if self.networks.decoder is not None:
            observation = self.networks.decoder(feature) * self.observation_scale + self.observation_mean
        reward = self.networks.reward_head(feature)[:, 0] * self.reward_scale + self.reward_mean
        if not self._spec.terminates:
            return Step(observation, reward, torch.ones_like(reward, dtype=torch.bool))
        logit = self.networks.alive_head(feature)[:, 0]
        return Step(observation, reward, logit > 0, logit.sigmoid())

    def _normalised(self, observation: Tensor) -> Tensor:
        return (observation - self.observation_mean) / self.observation_scale

    def _encode(self, action: Tensor) -> Tensor:
        if self._spec.action_kind == "continuous":
            return action.to(self.observation_mean)  # in [-1, 1] already
        columns = zip(action.unbind(-1), self._spec.action_choices, strict=True)
        return torch.cat([F.one_hot(a, c).to(self._spec.dtype) for a, c in columns], -1)

    def save(self, folder: Path | str) -> None:
        """Write ``weights.safetensors``, then ``model.json``, which holds the hash of the weights."""
        write_model(folder, "rssm", self, spec=self._spec, config=self.config)

    @classmethod
    def load(cls, folder: Path | str, device: torch.device | str = "cpu") -> Self:
        """The model that :meth:`save` wrote, on ``device``, ready to plan with.

        Raises:
            CheckpointError: If a file is missing, altered, of another type or does not fit its JSON.
        """
        return read_model(folder, "rssm", lambda spec, config: cls(spec, RSSMConfig(**config)), device=device)


def _scale(std: npt.NDArray[np.float64]) -> Tensor:
    # a scalar that never changes in the data has nothing to normalise by
    return torch.from_numpy(np.where(std > 1e-8, std, 1.0))
