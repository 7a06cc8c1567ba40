"""Settings of the transformer world model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import ModelSpec
from tdm_agents.spaces.scalar_names import names_or_numbers
from tdm_agents.world_models.transformer.decoding.options import DecodingOptions
from tdm_agents.world_models.transformer.layout import StepLayout
from tdm_agents.world_models.transformer.network import NetworkConfig
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

_FLAT_OPTIONS = ("parallel", "capture", "attention", "mean_window")
"""Decoding options that older files have among the other settings, where ``read`` is called ``decoding``."""


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """Settings of a transformer world model; the network's sizes follow from them and the environment's.

    Attributes:
        layers: Number of blocks.
        width: Model width, a multiple of twice ``heads``.
        heads: Number of attention heads.
        feedforward: Hidden width of the GEGLU.
        context: Attention band in tokens, at least one step. The whole steps that it holds slide over real
            and imagined steps alike.
        tokenizer: How scalars become tokens.
        decoding: How imagined scalars are read and computed; not part of the model's identity, so that runs
            and fine-tuning do not compare it.
        reward_dropout: Rewards are replaced by NONE in training at a rate drawn per window from
            ``reward_dropout * U(0, 1)``, so that the model learns to read histories without rewards.
        dropout: Probability with which each number that is added to the stream of a token is dropped in
            training.
        action_weight: Weight of the behaviour-cloning tokens in the loss; 1 in the paper.
        max_observation: Largest observation with positions; None for the environment's own.
        max_action: Largest action with positions; None for the environment's own.
        names: Names of observation scalars that have positions, where the tokenizer's ranges go by role; by
            default those of the environments that the model is built for.

    Raises:
        ValueError: If a setting makes no sense.
    """

    layers: int = 4
    width: int = 128
    heads: int = 4
    feedforward: int = 256
    context: int = 1023
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    decoding: DecodingOptions = field(default_factory=DecodingOptions, metadata={"identity": False})
    reward_dropout: float = 1.0
    dropout: float = 0.0
    action_weight: float = 1.0
    max_observation: int | None = None
    max_action: int | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.context < 1:
            raise WrongValueError(f"context is {self.context} tokens; expected at least one step's")
        if not 0.0 <= self.reward_dropout <= 1.0:
            raise WrongValueError(f"reward_dropout is {self.reward_dropout}; expected a rate in [0, 1]")
        if not 0.0 <= self.dropout < 1.0:
            raise WrongValueError(f"dropout is {self.dropout}; expected a rate in [0, 1)")
        if self.action_weight < 0.0:
            raise WrongValueError(f"action_weight is {self.action_weight}; expected at least 0")

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TransformerConfig:
        """The settings from the JSON of ``dataclasses.asdict``; older files have decoding options among them.

        Raises:
            KeyError: If the tokenizer's settings are missing.
            TypeError: If there is an unknown setting.
            ValueError: If a value makes no sense.
        """
        settings = dict(value)
        tokenizer, decoding = settings.pop("tokenizer"), settings.pop("decoding", None)
        if not isinstance(decoding, Mapping):
            flat = {} if decoding is None else {"read": decoding}
            decoding = flat | {name: settings.pop(name) for name in _FLAT_OPTIONS if name in settings}
        former = {"reward_window": decoding.get("mean_window", DecodingOptions().mean_window)}
        decoding = {**former, "action_window": 0, **decoding}
        settings["names"] = tuple(settings.get("names", ()))
        return cls(tokenizer=TokenizerConfig(**tokenizer), decoding=DecodingOptions(**decoding), **settings)

    def network(self, spec: ModelSpec) -> NetworkConfig:
        """The network's sizes for an environment.

        Raises:
            ValueError: If the environment is larger than ``max_observation`` or ``max_action``.
        """
        for name, most, size in (
            ("max_observation", None if self.names else self.max_observation, spec.observation_dim),
            ("max_action", self.max_action, spec.action_dim),
        ):
            if most is not None and size > most:
                raise WrongValueError(
                    f"{name} is {most}, but the environment has {size}: a model that was trained so cannot "
                    f"play there; before a training raise {name}"
                )
        return NetworkConfig(
            layers=self.layers,
            width=self.width,
            heads=self.heads,
            feedforward=self.feedforward,
            bins=self.tokenizer.bins,
            max_observation=len(self.names) or self.max_observation or spec.observation_dim,
            max_action=self.max_action or spec.action_dim,
            returns=self.tokenizer.reward_to_go is not None,
        )

    def layout(self, spec: ModelSpec) -> StepLayout:
        """The tokens of a step of an environment, and their positions.

        Raises:
            ValueError: If an observation scalar has a name without a position.
        """
        size = self.network(spec).max_observation
        if not self.names:
            return StepLayout(spec.observation_dim, spec.action_dim, size)
        place = {name: index for index, name in enumerate(self.names)}
        scalars = names_or_numbers(spec.observation_names, spec.observation_dim)
        if unknown := [name for name in scalars if name not in place]:
            raise WrongValueError(
                f"the model does not know the observation scalar{'s' * (len(unknown) > 1)} "
                f"{', '.join(unknown)[:120]}; it was trained on {', '.join(self.names)[:240]}: train it on "
                "environments that have them"
            )
        places = tuple(place[name] for name in scalars)
        return StepLayout(spec.observation_dim, spec.action_dim, size, places)
