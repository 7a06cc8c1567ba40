"""TD-MPC2 of one environment, behind the contracts of world models and of learned models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Batch, ModelSpec, Optimizers, Preset, UpdateSettings
from tdm_agents.world_models.learned import LearnedModel
from tdm_agents.world_models.model_files import read_model, write_model
from tdm_agents.world_models.tdmpc2 import updating
from tdm_agents.world_models.tdmpc2.latent_networks import LatentNetworks
from tdm_agents.world_models.tdmpc2.latent_world import LatentWorld, RoundedNetworks
from tdm_agents.world_models.tdmpc2.objectives import model_loss
from tdm_agents.world_models.tdmpc2.pieces import cut
from tdm_agents.world_models.tdmpc2.sizes import PRESETS, TDMPC2Config, discount_of

if TYPE_CHECKING:
    from tdm_agents.data.trajectories import Trajectories


class TDMPC2(LatentWorld, LearnedModel):
    """A latent model that imagines rewards, ends and values, and no observations; it reads images.

    Args:
        spec: What it models. ``history_steps`` becomes 1; the device is where the module is moved to.
        config: Its sizes and its training.
        seed: Of the initial weights.

    Raises:
        ValueError: If the observations hold images that are too small.
    """

    config_type: ClassVar[type[TDMPC2Config]] = TDMPC2Config
    several: ClassVar[str] = "tdmpc2-multitask"
    reads_images: ClassVar[bool] = True
    config: TDMPC2Config

    def __init__(self, spec: ModelSpec, config: TDMPC2Config | None = None, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config if config is not None else TDMPC2Config()
        self._spec = replace(spec, history_steps=1, dtype=torch.float32, imagines_observations=False)
        generator = torch.Generator("cpu").manual_seed(int(seed))
        self.networks = LatentNetworks(self._spec, self.config, generator=generator)
        self._imagining = RoundedNetworks(self.networks, self.config)
        self.discount: Tensor
        known = self.config.discount
        number = torch.tensor(0.99 if known is None else known, device="cpu", dtype=torch.float32)
        self.register_buffer("discount", number)

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """The paper's sizes and planner, ``5m`` by default."""
        return PRESETS

    @property
    def spec(self) -> ModelSpec:
        """Spaces, sizes, time step, and the device of the weights."""
        return replace(self._spec, device=self.discount.device)

    def fit(self, data: Mapping[str, Trajectories]) -> None:
        """Set the discount from the longest episode, unless the settings say what it is.

        Raises:
            ValueError: If the data hold observations of another size.
        """
        (trajectories,) = data.values()
        if trajectories.observation_dim != self._spec.observation_dim:
            raise WrongValueError(
                f"the data's observations have {trajectories.observation_dim} scalars; "
                f"the model expects {self._spec.observation_dim}"
            )
        self.expect(int(trajectories.episodes[:, 2].max()) - 1)

    def expect(self, decisions: int) -> None:
        """Set the discount for episodes of at most ``decisions``, unless the settings say what it is."""
        if self.config.discount is None:
            self.discount.fill_(discount_of(decisions))

    def forward(
        self, batch: Batch, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The model's loss; the policy has another, which :meth:`update` lowers too.

        Args:
            batch: Windows of at least two steps; they are cut into pieces of ``config.horizon`` transitions.
            generator: Of the targets and of the dropout; None: nothing is random.

        Raises:
            ValueError: If the batch holds no transition.
        """
        pieces = cut(batch, self.config.horizon)
        loss = model_loss(
            self.networks, pieces, self.config, self._spec, discount=self.discount, generator=generator
        )
        return loss.total, loss.parts

    def optimizers(self, settings: UpdateSettings) -> Optimizers:
        """See :func:`~tdm_agents.world_models.tdmpc2.updating.optimizers_of`."""
        return updating.optimizers_of(self.networks, self.config, settings)

    def update(
        self,
        batch: Batch,
        optimizers: Optimizers,
        *,
        step: int,
        settings: UpdateSettings,
        generator: torch.Generator,
    ) -> Mapping[str, float]:
        """See :func:`~tdm_agents.world_models.tdmpc2.updating.update`.

        Raises:
            NotFiniteError: If a loss or a gradient is not finite.
            ValueError: If the batch holds no transition.
        """
        return updating.update(
            self.networks,
            cut(batch, self.config.horizon),
            optimizers,
            self.config,
            self._spec,
            discount=self.discount,
            step=step,
            settings=settings,
            generator=generator,
        )

    def summary(self) -> str:
        """The weights that are trained, and those that follow them."""
        return self.networks.summary()

    def save(self, folder: Path | str) -> None:
        """Write ``weights.safetensors``, then ``model.json``, which holds the hash of the weights."""
        write_model(folder, "tdmpc2", self, spec=self._spec, config=self.config)

    @classmethod
    def load(cls, folder: Path | str, device: torch.device | str = "cpu") -> Self:
        """The model that :meth:`save` wrote, on ``device``, ready to plan with.

        Raises:
            CheckpointError: If a file is missing, altered, of another type or does not fit its JSON.
        """
        return read_model(
            folder, "tdmpc2", lambda spec, config: cls(spec, TDMPC2Config(**config)), device=device
        )
