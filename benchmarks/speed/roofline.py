"""What a decision of the transformer must cost: its forwards, their FLOPs and the bytes that they read.

A decision imagines ``K`` candidates over ``H`` steps for each of ``B`` environments, ``N = B K`` rows, after
``T`` steps of history. A step is ``s = n + m + 2`` tokens, the history ``P = (T - 1) s + n``. With ``L``
blocks of width ``d``, GEGLU width ``f`` and ``V`` output bins, a multiplication and an addition being two
FLOPs:

- a token through the linear layers of all blocks costs ``L (8 d^2 + 6 d f)``, its logits ``2 d V``;
- a token that attends to ``S`` tokens costs ``4 d S`` per block;
- a forward reads the keys and values of the ``B`` histories once, and of each row's imagination once:
  ``2 L d (B P + N S)`` numbers.

One after another, an imagined step is ``n + 1`` forwards: reward, separator and action together, then each
observation scalar. In parallel it is ``1 + r`` forwards, ``r`` of them of ``n`` tokens. Attention is a band
of whole steps, so that neither ``P`` nor ``S`` grows without limit. Embeddings, norms, rotations, softmax
and sampling are not counted: their time is what an implementation loses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.layout import StepLayout, context_steps


@dataclass(frozen=True, kw_only=True)
class DecisionShape:
    """Everything that the cost of a decision depends on.

    Attributes:
        observation_dim: ``n``.
        action_dim: ``m``.
        num_samples: ``K``, candidates an environment.
        horizon: ``H``, steps imagined.
        config: The transformer's settings, of which sizes and attention band count.
        history_steps: ``T``, the present one included; what has left the band is not counted.
        batch: ``B``, environments decided for together.

    Raises:
        ValueError: If a number is below 1, or a step does not fit the band.
    """

    observation_dim: int
    action_dim: int
    num_samples: int
    horizon: int
    config: TransformerConfig
    history_steps: int = 1
    batch: int = 1

    def __post_init__(self) -> None:
        names = ("observation_dim", "action_dim", "num_samples", "horizon", "history_steps", "batch")
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        context_steps(self.config.context, self.layout)

    @property
    def layout(self) -> StepLayout:
        """The tokens of a step."""
        return StepLayout(self.observation_dim, self.action_dim, self.observation_dim)

    @property
    def band_steps(self) -> int:
        """Steps in the attention band."""
        return context_steps(self.config.context, self.layout)

    @property
    def rows(self) -> int:
        """``N``."""
        return self.batch * self.num_samples

    @property
    def prefix_steps(self) -> int:
        """Steps of history that are read."""
        return min(self.history_steps, self.band_steps)

    @property
    def prefix_tokens(self) -> int:
        """``P``; the present reward and action are not among them."""
        return (self.prefix_steps - 1) * self.layout.tokens + self.observation_dim

    @property
    def transitions(self) -> int:
        """Imagined transitions, ``N H``."""
        return self.rows * self.horizon

    @property
    def tokens(self) -> int:
        """Tokens that are predicted: observation scalars and rewards, ``N H (n + 1)``."""
        return self.transitions * (self.observation_dim + 1)


@dataclass(frozen=True, slots=True)
class Call:
    """Forwards of the network that cost the same.

    Attributes:
        count: How many; an average where the number of rounds is one.
        tokens: Tokens fed, of all rows.
        outputs: Of how many of them the last block's output is needed.
        read: Of how many of them logits are computed.
        attended: Pairs of a token and one that it attends to, in every block but the last.
        attended_last: Such pairs in the last block.
        cached: Tokens whose keys and values are read.
    """

    count: float
    tokens: int
    outputs: int
    read: int
    attended: int
    attended_last: int
    cached: int


@dataclass(frozen=True)
class DecisionCost:
    """The forwards of a decision, and sums over them.

    Attributes:
        shape: Of the decision.
        calls: The history's forward, and those of the imagined steps.
    """

    shape: DecisionShape
    calls: tuple[Call, ...]

    @property
    def forwards(self) -> float:
        """Forwards of the network, one after another."""
        return sum(call.count for call in self.calls)

    @cached_property
    def linear_flops(self) -> float:
        """FLOPs of the linear layers, the output head included."""
        return sum(call.count * self._linear(call) for call in self.calls)

    @cached_property
    def attention_flops(self) -> float:
        """FLOPs of products of queries with keys, and of weights with values."""
        return sum(call.count * self._attention(call) for call in self.calls)

    @cached_property
    def cache_numbers(self) -> float:
        """Numbers read as keys and values, each once per forward."""
        return sum(call.count * self._cache(call) for call in self.calls)

    def seconds(self, *, flops_per_second: float, bytes_per_second: float, number_bytes: int = 4) -> float:
        """The roofline: products at a measured rate, then keys and values at a measured bandwidth.

        Args:
            flops_per_second: Of matrix products of these shapes.
            bytes_per_second: Of reading memory.
            number_bytes: Size of a number: 4 for float32, 2 for bfloat16.
        """
        products = (self.linear_flops + self.attention_flops) / flops_per_second
        return products + self.cache_numbers * number_bytes / bytes_per_second

    def call_floor_seconds(
        self, *, flops_per_second: float, bytes_per_second: float, number_bytes: int = 4
    ) -> float:
        """The floor of machines that read while they compute: a forward takes the longer of both.

        Weights are read once per forward, too.

        Args:
            flops_per_second: The most that the machine's matrix products reach.
            bytes_per_second: Of reading memory.
            number_bytes: Size of a number.
        """
        return sum(
            call.count
            * max(
                (self._linear(call) + self._attention(call)) / flops_per_second,
                (self._weights(call) + self._cache(call)) * number_bytes / bytes_per_second,
            )
            for call in self.calls
        )

    def _weights(self, call: Call) -> int:
        config = self.shape.config
        blocks = config.layers * (4 * config.width**2 + 3 * config.width * config.feedforward)
        return blocks + (config.width * config.tokenizer.bins if call.read else 0)

    def _linear(self, call: Call) -> int:
        config = self.shape.config
        project, finish = 6 * config.width**2, 2 * config.width**2 + 6 * config.width * config.feedforward
        return (
            call.tokens * (config.layers * project + (config.layers - 1) * finish)
            + call.outputs * finish
            + call.read * 2 * config.width * config.tokenizer.bins
        )

    def _attention(self, call: Call) -> int:
        config = self.shape.config
        return 4 * config.width * ((config.layers - 1) * call.attended + call.attended_last)

    def _cache(self, call: Call) -> int:
        return 2 * self.shape.config.layers * self.shape.config.width * call.cached


def decision_cost(shape: DecisionShape, *, rounds: float | None = None) -> DecisionCost:
    """The cost of a decision whose scalars are sampled one after another, or together in rounds.

    Args:
        shape: Of the decision.
        rounds: Forwards of all observation scalars an imagined step, an average; None for one after another.

    Raises:
        ValueError: If ``rounds`` is not from 1 to ``n``.
    """
    dim = shape.observation_dim
    if rounds is not None and not 1 <= rounds <= dim:
        raise ValueError(f"rounds is {rounds}; expected 1 to the {dim} observation scalars, or None")
    calls = [_history(shape)]
    rows = shape.rows
    for time in range(shape.horizon):
        # of every row the first scalar is read from what the action leads to
        known = _forward(shape, time, offset=dim, chunk=shape.layout.chunk, outputs=1, read=rows)
        if rounds is None:  # from each scalar the next one, from the last the reward
            scalars = [_forward(shape, time + 1, offset=i, chunk=1, outputs=1, read=rows) for i in range(dim)]
        else:  # a round reads all scalars but the first; the last one, the reward too
            read = rows * (dim - 1) + round(rows / rounds)
            scalars = [_forward(shape, time + 1, offset=0, chunk=dim, outputs=dim, read=read, count=rounds)]
        calls += [known, *scalars]
    return DecisionCost(shape, tuple(calls))


def _history(shape: DecisionShape) -> Call:
    """The histories' forward, of which keys and values are wanted and no output."""
    length = shape.prefix_tokens
    pairs = shape.batch * math.comb(length + 1, 2)
    return Call(1, shape.batch * length, outputs=0, read=0, attended=pairs, attended_last=0, cached=0)


def _forward(
    shape: DecisionShape, time: int, *, offset: int, chunk: int, outputs: int, read: int, count: float = 1
) -> Call:
    """Tokens ``offset`` to ``offset + chunk`` of imagined step ``time``, against the band before them."""
    step, rows = shape.layout.tokens, shape.rows
    written = time * step + offset + chunk - shape.observation_dim
    inside = min(written, (shape.band_steps - 1) * step + offset + chunk)  # of the rows' own
    left = max(0, shape.prefix_steps + time - shape.band_steps) * step
    shared = max(0, shape.prefix_tokens - left)
    before = shared + inside - chunk

    def pairs(queries: int) -> int:
        """Of the last ``queries`` tokens of each row."""
        return rows * (queries * (before + chunk) - math.comb(queries, 2))

    return Call(
        count,
        tokens=rows * chunk,
        outputs=rows * outputs,
        read=read,
        attended=pairs(chunk),
        attended_last=pairs(outputs),
        cached=shape.batch * shared + rows * inside,
    )
