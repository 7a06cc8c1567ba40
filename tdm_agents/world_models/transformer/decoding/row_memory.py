"""Formulas for the memory of one imagined row."""

from __future__ import annotations

from dataclasses import dataclass

from tdm_agents.world_models.transformer.decoding.cache import Capacity
from tdm_agents.world_models.transformer.decoding.decoder import Decoder
from tdm_agents.world_models.transformer.decoding.packed_caches import PackedHistory
from tdm_agents.world_models.transformer.decoding.state import TransformerState
from tdm_agents.world_models.transformer.layout import StepLayout
from tdm_agents.world_models.transformer.network import NetworkConfig


@dataclass(frozen=True, slots=True)
class RowBytes:
    """Bytes that a row needs, beyond what rows share.

    Attributes:
        imagined: Its own keys and values, ``2 L d C`` numbers; ``C`` is ``most`` of
            :class:`tdm_agents.world_models.transformer.decoding.cache.Capacity`. PyTorch's products need one
            more layer. A captured step needs ``2 L d R`` numbers, where ``R`` is the number of tokens of
            ``H + 1`` steps, or of the band if that is less.
        working: The larger of the temporary memory of a block of a forward and of a reading of logits. A
            captured step needs ``2 (L + 2) d C`` numbers more: what was imagined is copied at the end, and
            graphs keep their workspace.
    """

    imagined: int
    working: int

    @property
    def total(self) -> int:
        """The sum of both."""
        return self.imagined + self.working


def row_bytes(
    network: NetworkConfig,
    layout: StepLayout,
    *,
    context_steps: int,
    history_tokens: int,
    horizon: int,
    parallel: bool,
    captured: bool = False,
    fused: bool = False,
    on_cpu: bool = True,
    number_bytes: int,
) -> RowBytes:
    """The bytes of a row.

    A forward of ``c`` tokens needs ``c (4 f + 7 d)`` numbers for the GEGLU or, with products,
    ``c heads (P + 2 C)`` numbers for scores. The logits of ``q`` scalars need three times ``q V`` float32; on
    a CPU once (twice for other types). With scalars one after another ``c = m + 2`` and ``q = 1``; in
    parallel ``c = n`` and ``q = n - 1`` where that is more. With whole steps ``c = n + m + 2`` and ``q = n``.

    Args:
        network: Sizes of the network.
        layout: The tokens of a decision step.
        context_steps: Decision steps in the attention band.
        history_tokens: ``P``, the tokens of the longest history.
        horizon: Number of steps that are imagined.
        parallel: Whether observation scalars are guessed together.
        captured: Whether a captured step is replayed.
        fused: Whether rows attend by :mod:`tdm_agents.world_models.transformer.cpu`.
        on_cpu: Whether rows are imagined on a CPU.
        number_bytes: Size of a number: 4 for float32, 2 for bfloat16.
    """
    dim, width = layout.observation_dim, network.width
    own = Capacity.of(horizon, context_steps, layout).most
    at_once, read = (layout.tokens, dim) if layout.whole else (layout.chunk, 1)
    if parallel:
        at_once, read = max(at_once, dim), max(read, dim - 1)
    seen = min(history_tokens + own, max(context_steps * layout.tokens, own))
    scores = network.heads * (seen + own) + 5 * width
    block = at_once * max(0 if fused else scores, 4 * network.feedforward + 7 * width) * number_bytes
    imagined = 2 * (network.layers + (not fused)) * width * own * number_bytes
    copies = {2: 2, 4: 1}.get(number_bytes, 3) if on_cpu else 3
    working = max(block, copies * read * network.bins * 4)
    if captured:
        working += imagined + 2 * width * own * number_bytes
        imagined = 2 * network.layers * width * min(context_steps, horizon + 1) * layout.tokens * number_bytes
    return RowBytes(imagined, working)


def needed_row_bytes(decoder: Decoder, state: TransformerState, *, horizon: int) -> int:
    """Bytes per row that a rollout of ``horizon`` steps from ``state`` needs.

    With a captured step this includes buffers for the rows that remain at the end. Where episodes end, it
    includes half as many rows again, copied from the others.
    """
    weight, captured = decoder.network.head.weight, decoder.options.capture != "no"
    needed = row_bytes(
        decoder.network.config,
        decoder.layout,
        context_steps=decoder.context_steps,
        history_tokens=state.history.tokens,
        horizon=horizon,
        parallel=bool(decoder.options.parallel),
        captured=captured,
        fused=not isinstance(state.history, PackedHistory),
        on_cpu=weight.device.type == "cpu",
        number_bytes=weight.element_size(),
    )
    more = needed.imagined if captured else needed.imagined // 2 if decoder.terminates else 0
    return needed.total + more
