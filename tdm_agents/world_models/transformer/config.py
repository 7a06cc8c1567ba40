"""Settings of the transformer world model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from tdm_agents.protocols import ModelSpec
from tdm_agents.world_models.transformer.decoding import Decoding, check_decoding
from tdm_agents.world_models.transformer.network import NetworkConfig
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

Capture = Literal["no", "eager", "compiled"]
Attention = Literal["fused", "products"]


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """Settings of a transformer world model; the network's sizes follow from them and the environment's.

    Attributes:
        layers: Blocks.
        width: Model width, a multiple of twice ``heads``.
        heads: Attention heads.
        feedforward: Hidden width of the GEGLU.
        context: Attention band in tokens, at least a step's; whole steps of it slide over real and imagined
            steps alike.
        tokenizer: How scalars become tokens.
        decoding: How an imagined scalar is read from its distribution.
        parallel: Whether the observation scalars of an imagined step are guessed all at once until nothing
            changes, with the same result as one after another; see
            :mod:`tdm_agents.world_models.transformer.scalars`. None for a single row on a CPU only, where it
            was faster for two of three trained models (``benchmarks/parallel_seconds.py``).
        capture: Whether rollouts replay one imagined step in buffers of fixed shape: on a GPU captured as a
            CUDA graph, its blocks compiled before or not. On a CPU it is the same work uncaptured, which
            gains nothing; ``"compiled"`` needs a C++ compiler there.
        attention: How imagined rows attend on a CPU in float32: ``"fused"`` as one loop that numba compiles
            (:mod:`tdm_agents.world_models.transformer.fused`), or by PyTorch's ``"products"``, as everywhere
            else, with ``capture``, and with several threads where PyTorch does not use GNU's OpenMP.
        mean_window: Bins on either side of the mode for ``decoding="mean"``.
        reward_dropout: Rewards are replaced by NONE in training at a rate drawn a window from
            ``reward_dropout * U(0, 1)``, so that histories without rewards are known.
        action_weight: Weight of the behaviour-cloning tokens in the loss; 1 in the paper.
        max_observation: Largest observation with positions; None for the environment's own.
        max_action: Largest action with positions; None for the environment's own.

    Raises:
        ValueError: If a setting makes no sense.
    """

    layers: int = 4
    width: int = 128
    heads: int = 4
    feedforward: int = 256
    context: int = 1023
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    decoding: Decoding = "mean"
    parallel: bool | None = None
    capture: Capture = "no"
    attention: Attention = "fused"
    mean_window: int = 16
    reward_dropout: float = 1.0
    action_weight: float = 1.0
    max_observation: int | None = None
    max_action: int | None = None

    def __post_init__(self) -> None:
        check_decoding(self.decoding)
        if self.capture not in get_args(Capture):
            raise ValueError(f"capture is {self.capture!r}; expected one of {', '.join(get_args(Capture))}")
        if self.attention not in get_args(Attention):
            known = " or ".join(map(repr, get_args(Attention)))
            raise ValueError(f"attention is {self.attention!r}; expected {known}")
        if self.context < 1:
            raise ValueError(f"context is {self.context} tokens; expected at least one step's")
        if self.mean_window < 0:
            raise ValueError(f"mean_window is {self.mean_window}; expected at least 0")
        if not 0.0 <= self.reward_dropout <= 1.0:
            raise ValueError(f"reward_dropout is {self.reward_dropout}; expected a rate in [0, 1]")
        if self.action_weight < 0.0:
            raise ValueError(f"action_weight is {self.action_weight}; expected at least 0")

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TransformerConfig:
        """The settings that ``dataclasses.asdict`` made.

        Raises:
            KeyError: If the tokenizer's are missing.
            TypeError: If there is a setting of another name.
            ValueError: If a value makes no sense.
        """
        settings = dict(value)
        return cls(tokenizer=TokenizerConfig(**settings.pop("tokenizer")), **settings)

    def network(self, spec: ModelSpec) -> NetworkConfig:
        """The network's sizes for an environment.

        Raises:
            ValueError: If the environment is larger than ``max_observation`` or ``max_action``.
        """
        for name, most, size in (
            ("max_observation", self.max_observation, spec.observation_dim),
            ("max_action", self.max_action, spec.action_dim),
        ):
            if most is not None and size > most:
                raise ValueError(f"{name} is {most}, but the environment has {size}; raise {name}")
        return NetworkConfig(
            layers=self.layers,
            width=self.width,
            heads=self.heads,
            feedforward=self.feedforward,
            bins=self.tokenizer.bins,
            max_observation=self.max_observation or spec.observation_dim,
            max_action=self.max_action or spec.action_dim,
        )
