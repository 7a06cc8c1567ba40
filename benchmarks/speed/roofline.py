"""The necessary cost of a transformer's decision: its forwards, their FLOPs and the bytes that they read.

A decision imagines ``K`` candidates over ``H`` steps for each of ``B`` environments, ``N = B K`` rows, after
``T`` steps of history. A step is ``s = n + m + 2`` tokens, the history ``P = (T - 1) s + n``. With ``L``
blocks of width ``d``, GEGLU width ``f`` and ``V`` output bins, and two FLOPs for a multiplication and an
addition:

- a token through the linear layers of all blocks costs ``L (8 d^2 + 6 d f)``, its logits ``2 d V``;
- a token that attends to ``S`` tokens costs ``4 d S`` per block;
- a forward reads the keys and values of the ``B`` histories once, and of each row's imagination once:
  ``2 L d (B P + N S)`` numbers.

With scalars one after another, an imagined step takes ``n + 1`` forwards: reward, separator and action
together, then each observation scalar. In parallel it takes ``1 + r`` forwards, ``r`` of them with ``n``
tokens. Attention is a band of whole steps, so neither ``P`` nor ``S`` grows without limit. Embeddings, norms,
rotations, softmax and sampling are not counted: their time is what an implementation loses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.layout import StepLayout, context_steps


@dataclass(frozen=True, kw_only=True)
class DecisionShape:
    """The sizes on which the cost of a decision depends.

    Attributes:
        observation_dim: ``n``, scalars of the observation.
        action_dim: ``m``, scalars of the action.
        num_samples: ``K``, candidates per environment.
        horizon: ``H``, imagined steps.
        config: Settings of the transformer, of which sizes and attention band count.
        history_steps: ``T``, the present one included; steps that have left the band do not count.
        batch: ``B``, number of environments that decide together.

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
        """Number of steps in the attention band."""
        return context_steps(self.config.context, self.layout)

    @property
    def rows(self) -> int:
        """``N``."""
        return self.batch * self.num_samples

    @property
    def prefix_steps(self) -> int:
        """Number of steps of history that are read."""
        return min(self.history_steps, self.band_steps)

    @property
    def prefix_tokens(self) -> int:
        """``P``, without the present reward and action."""
        return (self.prefix_steps - 1) * self.layout.tokens + self.observation_dim

    @property
    def transitions(self) -> int:
        """Number of imagined transitions, ``N H``."""
        return self.rows * self.horizon

    @property
    def tokens(self) -> int:
        """Number of predicted tokens, observation scalars and rewards: ``N H (n + 1)``."""
        return self.transitions * (self.observation_dim + 1)


@dataclass(frozen=True, slots=True)
class Call:
    """Forwards of the network with the same cost.

    Attributes:
        count: Number of forwards; an average if the number of rounds is one.
        tokens: Number of tokens fed, of all rows.
        outputs: Number of these tokens whose output of the last block is needed.
        read: Number of these tokens whose logits are computed.
        attended: Number of pairs of a token and one that it attends to, in every block but the last.
        attended_last: Number of such pairs in the last block.
        cached: Number of tokens whose keys and values are read.
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
        shape: Shape of the decision.
        calls: The history's forward, and those of the imagined steps.
    """

    shape: DecisionShape
    calls: tuple[Call, ...]

    @property
    def forwards(self) -> float:
        """Number of forwards of the network, one after another."""
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
        """Number of keys' and values' numbers that are read, each once per forward."""
        return sum(call.count * self._cache(call) for call in self.calls)

    def seconds(self, *, flops_per_second: float, bytes_per_second: float, number_bytes: int = 4) -> float:
        """The roofline in seconds: products at a measured rate, then keys and values at a measured bandwidth.

        Args:
            flops_per_second: Rate of matrix products of these shapes.
            bytes_per_second: Rate of reading memory.
            number_bytes: Size of a number: 4 for float32, 2 for bfloat16.
        """
        products = (self.linear_flops + self.attention_flops) / flops_per_second
        return products + self.cache_numbers * number_bytes / bytes_per_second

    def call_floor_seconds(
        self, *, flops_per_second: float, bytes_per_second: float, number_bytes: int = 4
    ) -> float:
        """The floor in seconds of machines that read while they compute: a forward takes the longer of both.

        Weights are also read once per forward.

        Args:
            flops_per_second: Highest rate of the machine's matrix products.
            bytes_per_second: Rate of reading memory.
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
        shape: Shape of the decision.
        rounds: Average forwards of all observation scalars per imagined step; None for one after another.

    Raises:
        ValueError: If ``rounds`` is not from 1 to ``n``.
    """
    dim = shape.observation_dim
    if rounds is not None and not 1 <= rounds <= dim:
        raise ValueError(f"rounds is {rounds}; expected 1 to the {dim} observation scalars, or None")
    calls = [_history(shape)]
    rows = shape.rows
    for time in range(shape.horizon):
        # the first scalar of every row is read after its action
        known = _forward(shape, time, offset=dim, chunk=shape.layout.chunk, outputs=1, read=rows)
        if rounds is None:  # the next scalar is read after each one, the reward after the last
            scalars = [_forward(shape, time + 1, offset=i, chunk=1, outputs=1, read=rows) for i in range(dim)]
        else:  # a round reads all scalars but the first; the last round also the reward
            read = rows * (dim - 1) + round(rows / rounds)
            scalars = [_forward(shape, time + 1, offset=0, chunk=dim, outputs=dim, read=read, count=rounds)]
        calls += [known, *scalars]
    return DecisionCost(shape, tuple(calls))


def _history(shape: DecisionShape) -> Call:
    """The histories' forward, which gives keys and values and no output."""
    length = shape.prefix_tokens
    pairs = shape.batch * math.comb(length + 1, 2)
    return Call(1, shape.batch * length, outputs=0, read=0, attended=pairs, attended_last=0, cached=0)


def _forward(
    shape: DecisionShape, time: int, *, offset: int, chunk: int, outputs: int, read: int, count: float = 1
) -> Call:
    """The forward of tokens ``offset`` to ``offset + chunk`` of imagined step ``time``, in their band."""
    step, rows = shape.layout.tokens, shape.rows
    written = time * step + offset + chunk - shape.observation_dim
    inside = min(written, (shape.band_steps - 1) * step + offset + chunk)  # of the rows' own tokens
    left = max(0, shape.prefix_steps + time - shape.band_steps) * step
    shared = max(0, shape.prefix_tokens - left)
    before = shared + inside - chunk

    def pairs(queries: int) -> int:
        """The pairs of the last ``queries`` tokens of each row."""
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
