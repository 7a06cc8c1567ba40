"""A transformer that predicts all scalars of the next observation at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import ModelSpec, Preset
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.network import TransformerNetwork
from tdm_agents.world_models.transformer.presets import CONFIGS, PRESETS
from tdm_agents.world_models.transformer.token_model import TokenModel


class StepTransformer(TokenModel):
    """A transformer whose steps are read and predicted whole (as in TrajWorld, arXiv:2502.01366).

    The tokens of a decision step see each other; the token of observation scalar ``i`` predicts that scalar
    of the next observation, and the separator the reward. So an imagined step is one forward, and given the
    steps before, the scalars of an observation are independent. There is no policy, and nothing to search
    token by token.

    Args:
        spec: The environment; ``device`` and ``history_steps`` are derived, not read.
        config: Settings. Of ``decoding``, ``parallel`` and ``capture`` have no meaning here.
        network: Weights to share with other environments' models; by default new ones.

    Raises:
        ValueError: As for :class:`.token_model.TokenModel`, or if ``parallel`` or ``capture`` is asked for.
    """

    kind: ClassVar[str] = "step_transformer"
    several: ClassVar[str] = "step_generalist"
    whole_steps: ClassVar[bool] = True

    def __init__(
        self, spec: ModelSpec, config: TransformerConfig, network: TransformerNetwork | None = None
    ) -> None:
        _check(config)
        super().__init__(spec, config, network)

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """Those of the transformer, but for the paper's, whose planners are meant for it."""
        return {name: PRESETS[name] for name in CONFIGS}

    def with_decoding(self, **changes: Any) -> Self:
        """The same weights with other decoding options; see :meth:`.token_model.TokenModel.with_decoding`."""
        other = super().with_decoding(**changes)
        _check(other.config)
        return other


def _check(config: TransformerConfig) -> None:
    """Refuse options for several forwards per step.

    Raises:
        ValueError: If there are some.
    """
    for option, wrong in (
        ("parallel", config.decoding.parallel),
        ("capture", config.decoding.capture != "no"),
    ):
        if wrong:
            value = getattr(config.decoding, option)
            raise WrongValueError(
                f"{option} is {value!r}, but a step_transformer computes a step in one forward: leave it out"
            )
