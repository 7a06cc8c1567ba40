"""Memory of a decision: what its tensors need at most at once, by formula."""

from __future__ import annotations

from dataclasses import dataclass

from speed.roofline import DecisionShape
from tdm_agents.world_models.transformer.fixed import prefix_room
from tdm_agents.world_models.transformer.fused import PANEL
from tdm_agents.world_models.transformer.row_memory import row_bytes


@dataclass(frozen=True, slots=True)
class DecisionBytes:
    """Bytes of a decision's tensors; symbols as in :mod:`speed.roofline`.

    Attributes:
        weights: Of the network.
        history: What its forward works on, ``B P (4 f + 7 d)`` numbers, before there are any rows.
        tables: A rotation matrix a head and imagined step, for queries, keys and values; the projections that
            are rotated by it; the bins' centres.
        prefix: Keys and values of the histories, ``2 L d B P`` numbers, keys in whole panels of
            :data:`tdm_agents.world_models.transformer.fused.PANEL` tokens: not once per candidate.
        suffix: The rows' own keys and values, and
        working: what the rows need for a moment; see :func:`tdm_agents.world_models.transformer.row_memory`.
    """

    weights: int
    history: int
    tables: int
    prefix: int
    suffix: int
    working: int

    @property
    def total(self) -> int:
        """Of those that are needed at once."""
        return self.weights + self.prefix + max(self.history, self.tables + self.suffix + self.working)


def decision_bytes(
    shape: DecisionShape,
    *,
    parallel: bool = False,
    captured: bool = False,
    on_cpu: bool = True,
    number_bytes: int = 4,
) -> DecisionBytes:
    """The bytes of a decision that samples.

    Args:
        shape: Of the decision; where a planner's ``max_rows`` splits it, of that many rows.
        parallel: Whether observation scalars are guessed together.
        captured: Whether a captured step is replayed: tables and prefix are there twice, and of the history
            there is room for a power of two of steps, or for the band.
        on_cpu: Whether it is made there, where rows may attend by
            :mod:`tdm_agents.world_models.transformer.fused`.
        number_bytes: Size of a number: 4 for float32, 2 for bfloat16.
    """
    config, dim = shape.config, shape.observation_dim
    width, hidden, bins = config.width, config.feedforward, config.tokenizer.bins
    blocks = config.layers * (4 * width**2 + 3 * width * hidden + 4 * width)
    embedded = bins + 2 + dim + 2 + shape.action_dim
    ends = (embedded + bins) * width + 3 * width + 1  # tables of embeddings, head, last norm, alive
    fused = config.attention == "fused" and on_cpu and number_bytes == 4 and not captured
    row = row_bytes(
        config,
        shape.layout,
        prefix_tokens=shape.prefix_tokens,
        horizon=shape.horizon,
        parallel=parallel,
        captured=captured,
        fused=fused,
        on_cpu=on_cpu,
        number_bytes=number_bytes,
    )
    prefix, tables = 2 * shape.prefix_tokens, (shape.horizon + 1) * 3 * width**2 // config.heads
    tables = (tables + 3 * config.layers * width**2) * number_bytes + (dim + 1) * bins * 4
    if captured:
        prefix += 2 * prefix_room(shape.prefix_steps, shape.band_steps, shape.layout)
        tables *= 2
    if fused:
        prefix += -shape.prefix_tokens % PANEL
    return DecisionBytes(
        weights=(blocks + ends) * number_bytes,
        history=shape.batch * shape.prefix_tokens * (4 * hidden + 7 * width) * number_bytes,
        tables=tables,
        prefix=config.layers * width * shape.batch * prefix * number_bytes,
        suffix=shape.rows * row.suffix,
        working=shape.rows * row.working,
    )
