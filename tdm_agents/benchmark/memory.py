"""Memory of a decision: what its tensors need at most at once, by formula."""

from __future__ import annotations

from dataclasses import dataclass

from tdm_agents.benchmark.roofline import DecisionShape
from tdm_agents.world_models.transformer.suffix import most_tokens


@dataclass(frozen=True, slots=True)
class DecisionBytes:
    """Bytes of a decision's tensors; symbols as in :mod:`tdm_agents.benchmark.roofline`.

    Attributes:
        weights: Of the network.
        mask: Which tokens of the history see which, ``P^2``, needed before all that follows here.
        tables: A rotation matrix a head and imagined step, for queries, keys and values; the bins' centres.
        prefix: Keys and values of the histories, ``2 L d B P`` numbers: not once a candidate.
        suffix: The rows' own, ``2 (L + 1) d N C`` numbers, ``C`` being the tokens of ``H`` steps, or of the
            band, and some more; see :func:`tdm_agents.world_models.transformer.suffix.most_tokens`.
        working: The larger of what a block of a forward and a reading of logits need for a moment.
    """

    weights: int
    mask: int
    tables: int
    prefix: int
    suffix: int
    working: int

    @property
    def total(self) -> int:
        """Of those that are needed at once."""
        return self.weights + max(self.mask, self.tables + self.prefix + self.suffix + self.working)


def decision_bytes(shape: DecisionShape, *, parallel: bool = False, number_bytes: int = 4) -> DecisionBytes:
    """The bytes of a decision that samples.

    A forward of ``c`` tokens a row needs ``N c heads (P + 2 S)`` numbers for scores, ``S`` being the row's
    own tokens, or ``N c (4 f + 7 d)`` for the GEGLU; logits of ``q`` scalars a row, three times ``N q V``
    float32. One after another ``c = m + 2`` and ``q = 1``, in parallel ``c = n`` and ``q = n - 1`` where that
    is more.

    Args:
        shape: Of the decision; where a planner's ``max_rows`` splits it, of that many rows.
        parallel: Whether observation scalars are guessed together.
        number_bytes: Size of a number: 4 for float32, 2 for bfloat16.
    """
    config, step, rows, dim = shape.config, shape.layout.tokens, shape.rows, shape.observation_dim
    width, hidden, bins = config.width, config.feedforward, config.tokenizer.bins
    blocks = config.layers * (4 * width**2 + 3 * width * hidden + 4 * width)
    embedded = bins + 2 + dim + 2 + shape.action_dim
    ends = (embedded + bins) * width + 3 * width + 1  # tables of embeddings, head, last norm, alive
    cached = 2 * config.layers * width
    own = most_tokens(shape.horizon, shape.band_steps, shape.layout)
    at_once = max(shape.layout.chunk, dim) if parallel else shape.layout.chunk
    scores = (
        config.heads * (min(shape.prefix_tokens + own, max(shape.band_steps * step, own)) + own) + 5 * width
    )
    logits = rows * bins * (max(1, dim - 1) if parallel else 1)
    return DecisionBytes(
        weights=(blocks + ends) * number_bytes,
        mask=11 * (shape.prefix_steps * step) ** 2,  # int64 distances, three tables of bool
        tables=(shape.horizon + 1) * 3 * width**2 // config.heads * number_bytes + (dim + 1) * bins * 4,
        prefix=cached * shape.batch * shape.prefix_tokens * number_bytes,
        suffix=(cached + 2 * width) * rows * own * number_bytes,
        working=max(rows * at_once * max(scores, 4 * hidden + 7 * width) * number_bytes, 3 * logits * 4),
    )
