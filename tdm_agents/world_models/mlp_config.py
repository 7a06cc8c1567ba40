"""Settings and presets of the MLP world models."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import Literal, get_args

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Preset
from tdm_agents.world_models.mlp_tokens import Read
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

Numbers = Literal["plain", "tokens"]
"""Numbers as they are, normalised, or as tokens."""


@dataclass(frozen=True, slots=True)
class MLPConfig:
    """Settings of an :class:`MLPWorldModel`.

    Attributes:
        hidden: Width of the hidden layers, from 1 to 65,536.
        layers: Number of hidden layers, from 1 to 1,000.
        parameters: If given, ``hidden`` is not read: the width is that with which the model of an environment
            comes closest to this number of parameters.
        target: What is predicted of an observation: its ``"change"``, or the next one itself
            (``"absolute"``).
        inputs: ``"plain"``: normalised numbers. ``"tokens"``: every scalar by a learned vector of its token.
        outputs: ``"plain"``: normalised numbers, learned by squared error. ``"tokens"``: a distribution over
            bins per scalar, learned by cross-entropy.
        scale: Of tokens: the papers' ``"mu_law"``, ``"quantile"`` or ``"equal_counts"``. Tokens of changes
            are always uniform over the changes in the data.
        bins: Number of tokens.
        token_width: Length of a token's vector among the inputs, from 1 to 65,536.
        read: How predicted distributions become numbers: their ``"mean"``, or a ``"sample"`` of them. No part
            of what the model is.

    Raises:
        ValueError: If a setting makes no sense.
    """

    hidden: int = 256
    layers: int = 3
    parameters: int | None = None
    target: Literal["absolute", "change"] = "change"
    inputs: Numbers = "plain"
    outputs: Numbers = "plain"
    scale: Literal["mu_law", "quantile", "equal_counts"] = "mu_law"
    bins: int = 1024
    token_width: int = 16
    read: Read = field(default="mean", metadata={"identity": False})

    def __post_init__(self) -> None:
        for name, most in (("hidden", 65_536), ("layers", 1_000), ("token_width", 65_536)):
            if not 1 <= (value := getattr(self, name)) <= most:
                raise WrongValueError(
                    f"MLPConfig.{name} is {value}; expected at least 1 and at most {most:,}"
                )
        for name, kinds in (("inputs", Numbers), ("outputs", Numbers), ("read", Read)):
            if (value := getattr(self, name)) not in get_args(kinds):
                raise WrongValueError(
                    f"MLPConfig.{name} is {value!r}; expected one of {', '.join(get_args(kinds))}"
                )
        self.tokenizer()  # refuses the other fields

    def tokenizer(self) -> TokenizerConfig:
        """The scheme of its tokens."""
        return TokenizerConfig(observation=self.scale, target=self.target, bins=self.bins)


PRESETS = {
    "default": Preset(MLPConfig()),
    # the number of parameters of the transformer's preset "small", within 2 % from cartpole to humanoid
    "large": Preset(MLPConfig(parameters=478_000)),
}
"""By name, the default first."""


def width_of(config: MLPConfig, inputs: int, outputs: int) -> int:
    """The width of the hidden layers, which may follow from a number of parameters.

    Args:
        config: Settings.
        inputs: Numbers that the first layer reads.
        outputs: Numbers that the last layer gives.

    Raises:
        ValueError: If the number of parameters is below what a width of 1 takes.
    """
    if (wanted := config.parameters) is None:
        return config.hidden

    def count(width: int) -> int:
        table = config.bins * config.token_width if config.inputs == "tokens" else 0
        between = (config.layers - 1) * width * (width + 1)
        return table + width * (inputs + 1) + between + outputs * (width + 1)

    if count(1) > wanted:
        raise WrongValueError(
            f"MLPConfig.parameters is {config.parameters}; expected at least {count(1)}, which an MLP of "
            f"width 1 has here: raise it, or have fewer bins ({config.bins}) or shorter vectors of tokens "
            f"({config.token_width})"
        )
    width = bisect.bisect_right(range(wanted), wanted, key=count) - 1
    return min(width, width + 1, key=lambda w: abs(count(w) - wanted))
