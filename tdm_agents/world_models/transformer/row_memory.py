"""Memory of one imagined row, by formula."""

from __future__ import annotations

from dataclasses import dataclass

from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.layout import StepLayout, context_steps
from tdm_agents.world_models.transformer.suffix import Room


@dataclass(frozen=True, slots=True)
class RowBytes:
    """Bytes that a row needs beyond what rows share.

    Attributes:
        suffix: Its keys and values, ``2 L d C`` numbers; ``C`` is ``most`` of
            :class:`tdm_agents.world_models.transformer.suffix.Room`. For PyTorch's products, a layer more.
            Captured, ``2 L d R``; ``R`` are the tokens of ``H + 1`` steps, or of the band if that is less.
        working: The larger of what a block of a forward and a reading of logits need for a moment. Captured,
            ``2 (L + 2) d C`` more: in the end what was imagined is copied, and graphs keep what they work on.
    """

    suffix: int
    working: int

    @property
    def total(self) -> int:
        """Of both."""
        return self.suffix + self.working


def row_bytes(
    config: TransformerConfig,
    layout: StepLayout,
    *,
    prefix_tokens: int,
    horizon: int,
    parallel: bool,
    captured: bool = False,
    fused: bool = False,
    on_cpu: bool = True,
    number_bytes: int,
) -> RowBytes:
    """The bytes of a row.

    A forward of ``c`` tokens needs ``c (4 f + 7 d)`` numbers for the GEGLU, or, for products,
    ``c heads (P + 2 C)`` for scores; logits of ``q`` scalars, three times ``q V`` float32, on a CPU once
    (of other types twice). One after another ``c = m + 2``, ``q = 1``, in parallel ``c = n`` and
    ``q = n - 1`` where that is more.

    Args:
        config: Sizes of the network.
        layout: Of the environment.
        prefix_tokens: ``P``.
        horizon: Steps that are imagined.
        parallel: Whether observation scalars are guessed together.
        captured: Whether a captured step is replayed.
        fused: Whether rows attend by :mod:`tdm_agents.world_models.transformer.fused`.
        on_cpu: Whether they are imagined there.
        number_bytes: Size of a number: 4 for float32, 2 for bfloat16.
    """
    dim, width = layout.observation_dim, config.width
    band = context_steps(config.context, layout)
    own = Room.of(horizon, band, layout).most
    at_once, read = layout.chunk, 1
    if parallel:
        at_once, read = max(at_once, dim), max(read, dim - 1)
    seen = min(prefix_tokens + own, max(band * layout.tokens, own))
    scores = config.heads * (seen + own) + 5 * width
    block = at_once * max(0 if fused else scores, 4 * config.feedforward + 7 * width) * number_bytes
    suffix = 2 * (config.layers + (not fused)) * width * own * number_bytes
    copies = {2: 2, 4: 1}.get(number_bytes, 3) if on_cpu else 3
    working = max(block, copies * read * config.tokenizer.bins * 4)
    if captured:
        working += suffix + 2 * width * own * number_bytes
        suffix = 2 * config.layers * width * min(band, horizon + 1) * layout.tokens * number_bytes
    return RowBytes(suffix, working)
