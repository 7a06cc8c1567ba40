"""Named settings of the transformer world model."""

from __future__ import annotations

from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

_PAPER_TOKENS = TokenizerConfig(observation="mu_law", target="absolute")

PRESETS: dict[str, TransformerConfig] = {
    # for two cores and one environment; what the bundled checkpoints use
    "small": TransformerConfig(layers=4, width=128, heads=4, feedforward=256, context=24, action_weight=0.1),
    "small-paper-tokens": TransformerConfig(
        layers=4, width=128, heads=4, feedforward=256, context=24, action_weight=0.1,
        tokenizer=_PAPER_TOKENS, decoding="sample",
    ),
    # 2305.10912, section 4.1: 77M parameters
    "gato-79m": TransformerConfig(
        layers=8, width=768, heads=24, feedforward=3072, context=1023,
        tokenizer=_PAPER_TOKENS, decoding="sample",
    ),
    # Gato (2205.06175), table 5
    "gato-364m": TransformerConfig(
        layers=12, width=1536, heads=12, feedforward=6144, context=1023,
        tokenizer=_PAPER_TOKENS, decoding="sample",
    ),
}  # fmt: skip
