"""One transformer for environments of different sizes: the paper's generalist (2305.10912, section 4.3).

The environments share every weight. Each has its own layout and its own tokenizer, which has no weights, and
becomes a :class:`TransformerWorldModel` that shares the network: planners, evaluation and fine-tuning see no
difference. With tokens that need no data (the paper's: mu-law and absolute targets), or whose ranges belong
to the role of a scalar instead of an environment, this also holds for environments that were not trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import known_name
from tdm_agents.errors import UnknownNameError, WrongValueError, retold
from tdm_agents.protocols import Batch, MixedBatch, ModelSpec, Preset, TrainableModel
from tdm_agents.spaces.spec_json import spec_from_json, spec_to_json
from tdm_agents.world_models.learned import LearnedModel
from tdm_agents.world_models.model_files import read_described, write_described
from tdm_agents.world_models.transformer.beginning import (
    begin_with,
    fit_tokens,
    seeded,
    suggested,
    with_names,
    with_room,
)
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.loss import prediction_loss
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.network import TransformerNetwork
from tdm_agents.world_models.transformer.preparing import Preparation
from tdm_agents.world_models.transformer.role_ranges import fit_roles, take_roles
from tdm_agents.world_models.transformer.token_batch import TokenBatch
from tdm_agents.world_models.transformer.token_model import TokenModel


class Generalist(LearnedModel):
    """A transformer that models several environments.

    Args:
        specs: Spec of each environment, by name.
        config: Settings; where ``max_observation`` and ``max_action`` are None, they become those of the
            largest environment.

    Raises:
        ValueError: If there is no environment, or one does not fit the settings; the message says which.

    Attributes:
        config: The settings, with both maxima.
        network: The weights.
    """

    config_type: ClassVar[type[TransformerConfig]] = TransformerConfig
    kind: ClassVar[str] = "generalist"
    """The name under which the class is registered."""
    member: ClassVar[type[TokenModel]] = TransformerWorldModel
    """The model of one environment."""

    def __init__(self, specs: Mapping[str, ModelSpec], config: TransformerConfig) -> None:
        super().__init__()
        if not specs:
            raise WrongValueError("specs is empty; a generalist needs at least one environment")
        self.config = replace(
            with_names(config, list(specs.values())),
            max_observation=config.max_observation or max(s.observation_dim for s in specs.values()),
            max_action=config.max_action or max(s.action_dim for s in specs.values()),
        )
        self.network = TransformerNetwork(self.config.network(next(iter(specs.values()))))
        # not registered as modules: each would list the network's weights again
        self._models: dict[str, TokenModel] = {}
        for name, spec in specs.items():
            try:
                self._models[name] = self.member(spec, self.config, self.network)
            except ValueError as error:
                raise retold(error, f"environment {name}: {error}") from error
        self._readings = {name: model.reading for name, model in self._models.items()}
        self.tokenizers = nn.ModuleList(model.tokenizer for model in self._models.values())

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """Those of the model of one environment."""
        return cls.member.presets()

    @classmethod
    def build(
        cls, specs: Mapping[str, ModelSpec], config: Any, *, seed: int, source: TrainableModel | None = None
    ) -> Self:
        """A new generalist; see :meth:`tdm_agents.protocols.TrainableModel.build`.

        Args:
            specs: Spec of each environment, by name.
            config: Settings; see :func:`~tdm_agents.world_models.transformer.beginning.with_room`.
            seed: Seed of the initial weights.
            source: A transformer or generalist to start from. Where its tokens need no data, it need not have
                seen the environments.

        Raises:
            ValueError: If the settings do not fit an environment.
            CheckpointError: If ``source`` does not fit.
        """
        with seeded(seed):
            model = cls(specs, with_room(config, specs, source))
        if source is not None:
            begin_with(source, model, specs)
        return model

    @classmethod
    def suggested(cls, config: Any, specs: Mapping[str, ModelSpec]) -> tuple[Any, str]:
        """The settings with a context of at least four steps; see :class:`tdm_agents.protocols.Suggests`."""
        return suggested(config, specs)

    @property
    def layers(self) -> list[nn.Module]:
        """The blocks, for weights that are sharded over processes."""
        return list(self.network.blocks)

    def summary(self) -> str:
        """The number of weights, and of tokens that each token attends to."""
        return f"{super().summary()}, a context of {self.config.context:,} tokens"

    @property
    def environments(self) -> tuple[str, ...]:
        """Names of the environments that the generalist was built for."""
        return tuple(self._models)

    def environment(self, name: str | None) -> TokenModel:
        """The model of one of :attr:`environments`, which shares the weights.

        Args:
            name: Name as in :attr:`environments`. A module in front (``"tdm_envs:..."``) does not count, and
                keyword arguments (``"tdm/WalkerTree-v0 dof=5 body=3"``) may come in any order.

        Raises:
            LookupError: If there is no such environment; the message lists those that exist.
        """
        if (known := known_name(name, self._models)) is not None:
            return self._models[known]
        raise UnknownNameError(
            f"env_id is {name!r}; expected one of this generalist's environments, "
            f"{', '.join(self._models)[:2000]}; for another, give the environment itself: "
            "TDMAgent.load(folder, env=env), or unseen=true in an entry"
        )

    def for_spec(self, spec: ModelSpec) -> TokenModel:
        """A model of any environment, whether trained on or not, that shares the weights.

        Args:
            spec: Spec of the environment, for example from :func:`tdm_agents.spaces.model_spec.spec_of`.

        Raises:
            ValueError: If tokens are fitted to data of each environment, which a new one does not have, its
                scalars have names or roles that were not trained on, or it is larger than ``max_observation``
                or ``max_action``.
        """
        if not self.config.tokenizer.transfers:
            raise WrongValueError(
                f"tokens are {self.config.tokenizer.observation!r} with {self.config.tokenizer.target!r} "
                "targets, whose ranges are fitted to data, so that another environment's are not known; "
                "train the generalist with ranges by role (--preset small-generalist) or with the paper's "
                "tokens (--preset small-paper-tokens, gato-79m, ...)"
            )
        model = self.member(spec, self.config, self.network)
        if not self.config.tokenizer.fixed:
            take_roles(self._models.values(), model)
        return model.to(self.network.head.weight.device)  # tokenizers are built on the CPU

    def fit(self, data: Mapping[str, Trajectories]) -> None:
        """Fit each environment's token ranges to its data, or those of each role to the data of all."""
        if self.config.tokenizer.ranges == "role":
            fit_roles([(self.environment(name), trajectories) for name, trajectories in data.items()])
            return
        for name, trajectories in data.items():
            fit_tokens(self.environment(name).tokenizer, trajectories)

    def forward(
        self, batch: Batch | MixedBatch | TokenBatch, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean of the environments' losses, weighted by their numbers of windows; all share one forward.

        Args:
            batch: Windows of one or more of the environments, on the weights' device, or what
                :attr:`preparation` made of them; a plain batch where the model has a single environment.
            generator: Source of the reward dropout; None drops no reward.

        Returns:
            The loss, and detached metrics: weighted means over the environments that have them.
        """
        prepared = batch if isinstance(batch, TokenBatch) else self.preparation(batch, generator=generator)
        return prediction_loss(self.network, prepared)

    def counts(self, batch: Batch | MixedBatch) -> Tensor:
        """What the loss of each environment divides by, ``[E, 5]``; see :func:`.targets.counts_of`."""
        return self.preparation.counts(batch)

    @property
    def preparation(self) -> Preparation:
        """What turns batches into tokens."""
        device = self.network.head.weight.device
        return Preparation(self._readings, self.config, pads=device.type != "cpu")

    def save(self, folder: Path | str) -> None:
        """Write ``weights.safetensors`` and ``model.json`` to a folder, each atomically, the JSON last."""
        specs = {name: spec_to_json(model.spec) for name, model in self._models.items()}
        write_described(folder, self.kind, self, {"environments": specs, "config": asdict(self.config)})

    @classmethod
    def load(cls, folder: Path | str, *, device: torch.device | str = "cpu") -> Self:
        """The generalist that :meth:`save` wrote.

        Raises:
            CheckpointError: If a file is missing, truncated or altered, or has another schema or type.
        """

        def build(value: Mapping[str, Any]) -> Any:
            specs = {name: spec_from_json(spec, device) for name, spec in value["environments"].items()}
            with seeded(0):  # for weights that are overwritten
                return cls(specs, TransformerConfig.from_json(value["config"]))

        model: Self = read_described(folder, cls.kind, build, device=device)
        return model
