"""What transformers over trajectory tokens have in common, whatever the order of their predictions.

The history is encoded once per decision and shared by all candidates, everything that is known together goes
through one forward, and output bins may cover changes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from tdm_agents.data.trajectories import Trajectories
from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import (
    Batch,
    History,
    ModelSpec,
    Preset,
    Rollout,
    Step,
    TrainableModel,
    looped_rollout,
)
from tdm_agents.spaces.goals import goal_columns
from tdm_agents.world_models.learned import LearnedModel, only_environment
from tdm_agents.world_models.model_files import read_model, write_model
from tdm_agents.world_models.transformer.beginning import (
    begin_with,
    fit_returns,
    fit_tokens,
    seeded,
    suggested,
    with_names,
    with_room,
)
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.decoding.alive import rollout_while_alive
from tdm_agents.world_models.transformer.decoding.captured import CapturedSteps, can_replay, captured_rollout
from tdm_agents.world_models.transformer.decoding.decoder import Decoder
from tdm_agents.world_models.transformer.decoding.encode import encode
from tdm_agents.world_models.transformer.decoding.imagine import imagine
from tdm_agents.world_models.transformer.decoding.numbers import weights_in_bfloat16
from tdm_agents.world_models.transformer.decoding.row_memory import needed_row_bytes
from tdm_agents.world_models.transformer.decoding.state import TransformerState
from tdm_agents.world_models.transformer.layout import context_steps
from tdm_agents.world_models.transformer.loss import prediction_loss
from tdm_agents.world_models.transformer.network import TransformerNetwork
from tdm_agents.world_models.transformer.preparing import Preparation, Reading
from tdm_agents.world_models.transformer.presets import PRESETS
from tdm_agents.world_models.transformer.role_ranges import fit_roles, roles_of
from tdm_agents.world_models.transformer.token_batch import TokenBatch
from tdm_agents.world_models.transformer.tokenizer import Tokenizer


class TokenModel(LearnedModel):
    """Base class of transformers over trajectory tokens, behind the world-model protocol.

    Args:
        spec: The environment; ``device`` and ``history_steps`` are derived, not read.
        config: Settings.
        network: Weights to share with other environments' models; by default new ones.

    Raises:
        ValueError: If the numbers of choices of discrete actions are missing or exceed the bins, a step does
            not fit the context, or the network has other sizes.
    """

    config_type: ClassVar[type[TransformerConfig]] = TransformerConfig
    kind: ClassVar[str]
    """The name under which the class is registered."""
    whole_steps: ClassVar[bool] = False
    """Whether the tokens of a step see each other; see :mod:`.layout`."""
    returns: ClassVar[bool] = False
    """Whether the return of the rest of an episode is predicted; see :mod:`.trajectory_model`."""

    def __init__(
        self, spec: ModelSpec, config: TransformerConfig, network: TransformerNetwork | None = None
    ) -> None:
        super().__init__()
        discrete = spec.action_kind == "discrete"
        if discrete and not spec.action_choices:
            raise WrongValueError(
                "action_choices is empty, but actions are discrete; expected one per component"
            )
        to_go = config.tokenizer.reward_to_go
        if self.returns != (to_go is not None):
            expected = "a discount" if self.returns else "none; trajectory_transformer predicts returns"
            raise WrongValueError(f"tokenizer.reward_to_go is {to_go}; expected {expected}")
        self.config = config = with_names(config, [spec])
        sizes = config.network(spec)
        if network is not None and network.config != sizes:
            raise ValueError(f"the network is {network.config}; expected {sizes}")
        self.network = network if network is not None else TransformerNetwork(sizes)
        choices = spec.action_choices if discrete else ()
        self.tokenizer = Tokenizer(config.tokenizer, spec.observation_dim, spec.action_dim, choices)
        self.layout = replace(config.layout(spec), whole=self.whole_steps)
        self.context_steps = context_steps(config.context, self.layout)
        self.captured_steps = CapturedSteps()
        self._spec = replace(spec, history_steps=self.context_steps)

    @property
    def spec(self) -> ModelSpec:
        """The spec of the model, on the present device of the weights."""
        return replace(self._spec, device=self.network.head.weight.device)

    @property
    def step_tokens(self) -> int:
        """Tokens per decision step, ``n + m + 2``."""
        return self.layout.tokens

    @property
    def decoder(self) -> Decoder:
        """A decoder of this model's present parts.

        Raises:
            ValueError: If ``bf16`` is asked for and cannot be done here.
        """
        return Decoder(
            self.network,
            self.tokenizer,
            self.layout,
            self.context_steps,
            self._spec.terminates,
            goal_columns(self._spec.observation_space),
            self.config.decoding,
            weights_in_bfloat16(self.network, self.config.decoding),
        )

    def with_decoding(self, **changes: Any) -> Self:
        """The same weights, shared, with other decoding options.

        Args:
            changes: Fields of :class:`.decoding.options.DecodingOptions`; the others stay as they are.
                ``parallel=None`` is the automatic choice.

        Raises:
            TypeError: If there is no such option.
            ValueError: If a value makes no sense.
        """
        other = copy.copy(self)
        other.config = replace(self.config, decoding=replace(self.config.decoding, **changes))
        other.captured_steps = CapturedSteps()
        return other

    # -- learning -------------------------------------------------------------------------------------------

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """Presets by name: sizes, tokens and planners."""
        return PRESETS

    @classmethod
    def build(
        cls, specs: Mapping[str, ModelSpec], config: Any, *, seed: int, source: TrainableModel | None = None
    ) -> Self:
        """A new transformer of one environment; see :meth:`tdm_agents.protocols.TrainableModel.build`.

        Args:
            specs: The spec of the environment, by name.
            config: Settings; see :func:`~tdm_agents.world_models.transformer.beginning.with_room`.
            seed: Seed of the initial weights.
            source: A transformer or generalist to start from. Where its tokens need no data, it need not have
                seen the environment.

        Raises:
            ValueError: If there are several environments, or the settings do not fit.
            CheckpointError: If ``source`` does not fit.
        """
        spec = only_environment(specs, cls.__name__)
        with seeded(seed):
            model = cls(spec, with_room(config, specs, source))
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

    def forward(
        self, batch: Batch | TokenBatch, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of windows; see :func:`.loss.prediction_loss`.

        Args:
            batch: Windows of this model's environment, on its device, or what :attr:`preparation` made of
                them.
            generator: Source of the reward dropout; None drops no reward (held-out evaluation).
        """
        prepared = batch if isinstance(batch, TokenBatch) else self.preparation(batch, generator=generator)
        return prediction_loss(self.network, prepared)

    def counts(self, batch: Batch) -> Tensor:
        """What the loss of a batch divides by, ``[5]``; see :func:`.targets.counts_of`."""
        return self.preparation.counts(batch)[0]

    @property
    def preparation(self) -> Preparation:
        """What turns batches into tokens."""
        device = self.network.head.weight.device
        return Preparation({"": self.reading}, self.config, pads=device.type != "cpu")

    @property
    def reading(self) -> Reading:
        """How windows of this model's environment become tokens."""
        return Reading(
            self.tokenizer, self.layout, self.context_steps, self._spec.terminates, alike=self._alike()
        )

    def _alike(self) -> object:
        """What the tokens of an environment depend on, equal where those of two are the same."""
        if not self.config.tokenizer.transfers:
            return id(self.tokenizer)  # its ranges are its own
        return self.layout, tuple(roles_of(self._spec)), self.tokenizer.action_choices, self._spec.terminates

    # -- imagining ------------------------------------------------------------------------------------------

    def start(self, history: History, *, horizon: int) -> TransformerState:
        """Encode ``B`` histories in one forward; rows of different lengths are masked.

        Args:
            history: The histories, of which the last ``context_steps`` are read.
            horizon: Number of steps that may be imagined from here.

        Raises:
            ValueError: If shapes do not fit the model, a value is NaN, or ``horizon < 1``.
        """
        return encode(self.decoder, history, horizon=horizon)

    def take(self, state: TransformerState, rows: Tensor) -> TransformerState:
        """Copies of the given rows (int64 ``[N']``), with the histories shared.

        Raises:
            IndexError: If a row does not exist.
            RuntimeError: If ``state`` was consumed.
            ValueError: If ``rows`` is not a non-empty int64 vector.
        """
        return state.take(rows)

    @torch.no_grad()
    def step(
        self, state: TransformerState, action: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[TransformerState, Step]:
        """Imagine one transition. Consumes ``state``.

        Args:
            state: ``N`` rows.
            action: ``[N, m]`` in [-1, 1], or int64 choices.
            generator: Source of randomness with ``read="sample"``.

        Raises:
            RuntimeError: If ``state`` was consumed, or stands at its horizon.
            ValueError: If ``action`` has another shape or type than the model's actions.
        """
        decoder = self.decoder
        state.check_horizon()
        decoder.check_action(action, state.rows)
        state = state.consume()
        return state, imagine(decoder, state, action, decoder.draws(state.rows, generator))

    def rollout(
        self, state: TransformerState, actions: Tensor, *, generator: torch.Generator | None = None
    ) -> Rollout:
        """``H`` calls of :meth:`step`, for ``actions[N, H, m]``, with the same errors. Consumes ``state``.

        With ``capture``, rows that come directly from :meth:`start` and :meth:`take`, in equal numbers per
        environment and in order, replay a captured step. Otherwise, where reading ``alive`` does not make a
        GPU wait, rows that have ended are no longer imagined.
        """
        decoder = self.decoder
        for time in range(actions.shape[1]):
            decoder.check_action(actions[:, time], state.rows)
        if type(self).step is not TokenModel.step:
            return looped_rollout(self, state, actions, generator=generator)
        if decoder.options.capture != "no" and can_replay(state):
            return captured_rollout(decoder, self.captured_steps, state, actions, generator=generator)
        if decoder.terminates and actions.device.type == "cpu":
            return rollout_while_alive(decoder, state, actions, generator=generator)
        return looped_rollout(self, state, actions, generator=generator)

    def row_bytes(self, state: TransformerState, *, horizon: int) -> int:
        """Bytes per row that a rollout of ``horizon`` steps from ``state`` needs."""
        return needed_row_bytes(self.decoder, state, horizon=horizon)

    # -- keeping --------------------------------------------------------------------------------------------

    def fit(self, data: Mapping[str, Trajectories]) -> None:
        """Fit the token ranges to the data of the environment; see :meth:`Tokenizer.fit_columns`.

        Raises:
            ValueError: If the data have another observation size, are empty or are not finite.
        """
        (trajectories,) = data.values()
        if self.config.tokenizer.ranges == "role":
            fit_roles([(self, trajectories)])
        else:
            fit_tokens(self.tokenizer, trajectories)
        if (discount := self.config.tokenizer.reward_to_go) is not None:
            fit_returns(self.tokenizer, trajectories.with_returns(discount))

    def save(self, folder: Path | str) -> None:
        """Write ``weights.safetensors`` and ``model.json`` to a folder, each atomically, the JSON last."""
        write_model(folder, self.kind, self, spec=self._spec, config=self.config)

    @classmethod
    def load(cls, folder: Path | str, *, device: torch.device | str = "cpu") -> Self:
        """The model that :meth:`save` wrote.

        Raises:
            CheckpointError: If a file is missing, truncated or altered, or has another schema or type.
        """
        return read_model(folder, cls.kind, cls._read, device=device)

    @classmethod
    def _read(cls, spec: ModelSpec, settings: Mapping[str, Any]) -> Self:
        with seeded(0):  # for weights that are overwritten
            return cls(spec, TransformerConfig.from_json(settings))
