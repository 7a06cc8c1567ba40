"""Presets of the transformer: sizes and tokens, a time step, and a planner.

The paper's presets (2305.10912, section 4.1) plan at every environment step, by random shooting with Brownian
noise: with 128 candidates (K) over 100 steps (H) for cartpole, 64 over 25 for walker, 64 over 20 for
    humanoid.
"""

from __future__ import annotations

from dataclasses import replace

from tdm_agents.protocols import Preset
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.decoding.options import DecodingOptions
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

_SAMPLE = DecodingOptions(read="sample")
_PAPER_TOKENS = TokenizerConfig(observation="mu_law", target="absolute")

_SMALL = TransformerConfig(layers=3, width=96, heads=4, feedforward=192, context=24, action_weight=0.1)

CONFIGS: dict[str, TransformerConfig] = {
    # for two cores and one environment; what the bundled checkpoint uses
    "small": _SMALL,
    # the same network with the paper's tokens, for comparison
    "small-paper-tokens": replace(_SMALL, tokenizer=_PAPER_TOKENS, decoding=_SAMPLE),
    # for two cores and many environments: ranges by role, so that an unseen body has tokens too
    "small-generalist": replace(
        _SMALL, context=400, tokenizer=TokenizerConfig(bins=512, ranges="role"), action_weight=0.3
    ),
    # 2305.10912, section 4.1: 77M parameters
    "gato-79m": TransformerConfig(
        layers=8, width=768, heads=24, feedforward=3072, context=1023,
        tokenizer=_PAPER_TOKENS, decoding=_SAMPLE,
    ),
    # Gato (2205.06175), table 5
    "gato-364m": TransformerConfig(
        layers=12, width=1536, heads=12, feedforward=6144, context=1023,
        tokenizer=_PAPER_TOKENS, decoding=_SAMPLE,
    ),
}  # fmt: skip
"""Sizes and tokens by name."""


def _paper(num_samples: int, horizon: int) -> Preset:
    return Preset(
        CONFIGS["gato-79m"],
        action_repeat=1,
        planner="random_shooting",
        planner_settings={"num_samples": num_samples, "horizon": horizon},
    )


PRESETS: dict[str, Preset] = {
    **{name: Preset(config) for name, config in CONFIGS.items()},
    "paper-cartpole": _paper(num_samples=128, horizon=100),
    "paper-walker": _paper(num_samples=64, horizon=25),
    "paper-humanoid": _paper(num_samples=64, horizon=20),
}
"""Presets by name, the default first."""
