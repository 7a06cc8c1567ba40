"""Formulas for the memory of a decision: the most that its tensors need at once."""

from __future__ import annotations

from dataclasses import dataclass

from speed.roofline import DecisionShape
from tdm_agents.world_models.transformer.cpu import PANEL
from tdm_agents.world_models.transformer.decoding.fixed_rows import history_room
from tdm_agents.world_models.transformer.decoding.row_memory import row_bytes
from tdm_agents.world_models.transformer.network import NetworkConfig


@dataclass(frozen=True, slots=True)
class DecisionBytes:
    """Bytes of a decision's tensors, with symbols as in :mod:`speed.roofline`.

    Attributes:
        weights: Weights of the network.
        history: Workspace of the history's forward, ``B P (4 f + 7 d)`` numbers, before there are any rows.
        tables: One rotation matrix per head and imagined step, for queries, keys and values; the projections
            that are rotated by it; the bins' centres.
        history_cache: Keys and values of the histories, ``2 L d B P`` numbers, keys in whole panels of
            :data:`tdm_agents.world_models.transformer.cpu.PANEL` tokens: not once per candidate.
        imagined_cache: The rows' own keys and values; see
            :mod:`tdm_agents.world_models.transformer.decoding.row_memory`.
        working: Temporary memory of the rows; see the same module.
    """

    weights: int
    history: int
    tables: int
    history_cache: int
    imagined_cache: int
    working: int

    @property
    def total(self) -> int:
        """The sum of those that are needed at once."""
        imagining = self.tables + self.imagined_cache + self.working
        return self.weights + self.history_cache + max(self.history, imagining)


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
        shape: Shape of the decision, with as many rows as a planner's ``max_rows`` allows at once.
        parallel: Whether observation scalars are guessed together.
        captured: Whether a captured step is replayed: tables and histories then exist twice, and the history
            has room for a power of two of steps, or for the band.
        on_cpu: Whether it is made on a CPU, where rows may attend by
            :mod:`tdm_agents.world_models.transformer.cpu`.
        number_bytes: Size of a number: 4 for float32, 2 for bfloat16.
    """
    config, dim = shape.config, shape.observation_dim
    width, hidden, bins = config.width, config.feedforward, config.tokenizer.bins
    blocks = config.layers * (4 * width**2 + 3 * width * hidden + 4 * width)
    embedded = bins + 2 + dim + 2 + shape.action_dim
    ends = (embedded + bins) * width + 3 * width + 1  # tables of embeddings, head, last norm, alive
    fused = config.decoding.attention == "fused" and on_cpu and number_bytes == 4 and not captured
    row = row_bytes(
        NetworkConfig(config.layers, width, config.heads, hidden, bins, dim, shape.action_dim),
        shape.layout,
        context_steps=shape.band_steps,
        history_tokens=shape.prefix_tokens,
        horizon=shape.horizon,
        parallel=parallel,
        captured=captured,
        fused=fused,
        on_cpu=on_cpu,
        number_bytes=number_bytes,
    )
    cached, tables = 2 * shape.prefix_tokens, (shape.horizon + 1) * 3 * width**2 // config.heads
    tables = (tables + 3 * config.layers * width**2) * number_bytes + (dim + 1) * bins * 4
    if captured:
        steps = history_room(shape.prefix_steps, shape.band_steps)
        cached += 2 * ((steps - 1) * shape.layout.tokens + dim)
        tables *= 2
    if fused:
        cached += -shape.prefix_tokens % PANEL
    return DecisionBytes(
        weights=(blocks + ends) * number_bytes,
        history=shape.batch * shape.prefix_tokens * (4 * hidden + 7 * width) * number_bytes,
        tables=tables,
        history_cache=config.layers * width * shape.batch * cached * number_bytes,
        imagined_cache=shape.rows * row.imagined,
        working=shape.rows * row.working,
    )
