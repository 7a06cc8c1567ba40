"""Rollouts that replay one imagined step: a captured CUDA graph on a GPU, the same work elsewhere."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tdm_agents.protocols import Rollout, Step
from tdm_agents.world_models.transformer.decoding.cuda_graph import cuda_graph
from tdm_agents.world_models.transformer.decoding.decoder import Decoder
from tdm_agents.world_models.transformer.decoding.fixed_rows import FixedRows, history_room
from tdm_agents.world_models.transformer.decoding.imagine import imagine
from tdm_agents.world_models.transformer.decoding.packed_caches import PackedHistory
from tdm_agents.world_models.transformer.decoding.state import TransformerState
from tdm_agents.world_models.transformer.decoding.together import first_guess, next_guess, settled

_MOST_KEPT = 2
"""Number of captured sizes: one for the rows that a planner imagines at once, one for those that remain."""


class CapturedStep:
    """A captured imagined step, for rows of given sizes.

    With scalars one after another it is one graph. With scalars together it is three: up to the first guess,
    a round, and what follows the last round. Between rounds there is a check whether they suffice, as in
    :func:`.together.together`.

    Args:
        decoder: The decoder that imagines the step.
        state: Rows of the sizes to capture.
        action: ``[N, m]``, an action of the type to capture.
        pool: Memory that graphs share; they are replayed one at a time, and leave nothing in it.

    Attributes:
        rows: The rows before and after the step.
    """

    def __init__(self, decoder: Decoder, state: TransformerState, action: Tensor, *, pool: Any) -> None:
        self._decoder = decoder
        self._parts: list[Callable[[], object] | None]
        self.rows = FixedRows(decoder.network, state, compiled=decoder.options.capture == "compiled")
        self.rows.action = action.clone()
        self._draws = self.rows.draws if decoder.options.read == "sample" else None
        device, reset = action.device, self.rows.time.zero_
        if not decoder.options.parallel:
            self._parts = [cuda_graph(self._imagine, device, pool=pool, reset=reset)]
            return
        dim = decoder.layout.observation_dim
        self._hidden = decoder.network.head.weight.new_zeros((state.rows, decoder.network.config.width))
        self._guess = torch.zeros_like(self.rows.observation)
        self._first = self._guess[:, :1].clone()
        self._tokens = torch.zeros((state.rows, dim), dtype=torch.int64, device=device)
        self._changed = torch.zeros((), dtype=torch.bool, device=device)
        self._parts = [
            cuda_graph(self._guess_first, device, pool=pool, reset=reset),
            # after a first guess: without one, a token would see nothing
            cuda_graph(self._guess_next, device, pool=pool),
            cuda_graph(self._arrive, device, pool=pool),
        ]

    def __call__(self) -> None:
        """Imagine ``rows.action``."""
        if len(self._parts) == 1:
            (self._parts[0] or self._imagine)()
            return
        begin, guess, end = self._parts
        (begin or self._guess_first)()
        changed: list[Tensor] = []
        for _ in range(self._decoder.layout.observation_dim):
            (guess or self._guess_next)()
            changed.append(self._changed.clone())
            if settled(self.rows, changed):
                break
        (end or self._arrive)()

    def _imagine(self) -> None:
        imagine(self._decoder, self.rows, self.rows.action, self._draws)

    def _guess_first(self) -> None:
        hidden = self._decoder.act(self.rows, self.rows.action)
        first, guess = first_guess(self._decoder, self.rows, hidden, self._draws)
        self._first.copy_(first)
        self._tokens.copy_(self._decoder.tokenizer.encode_observation(guess))

    def _guess_next(self) -> None:
        dim = self._decoder.layout.observation_dim
        outputs = self._decoder.extend(self.rows, self._tokens, offset=0, outputs=dim)  # [N, n, d]
        guess = next_guess(self._decoder, self.rows, self._first, outputs, self._draws)
        tokens = self._decoder.tokenizer.encode_observation(guess)
        self._changed.copy_((tokens != self._tokens).any())
        self._tokens.copy_(tokens)
        self._guess.copy_(guess)
        self._hidden.copy_(outputs[:, -1])

    def _arrive(self) -> None:
        self._decoder.arrive(self.rows, self._guess, self._hidden, self._draws)


class CapturedSteps:
    """The steps that a model captured last; they are not in copies of the model, nor in files."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        """Held while a step is replayed: its buffers are one thread's at a time."""
        self._steps: OrderedDict[tuple[object, ...], CapturedStep] = OrderedDict()
        self._pool: Any = None

    def __deepcopy__(self, memo: object) -> CapturedSteps:
        return CapturedSteps()

    def __reduce__(self) -> tuple[type[CapturedSteps], tuple[()]]:
        return CapturedSteps, ()

    def step(self, decoder: Decoder, state: TransformerState, action: Tensor) -> CapturedStep:
        """The step for these sizes, captured now or before."""
        history, rows = state.history, (state.rows, state.history.batch)
        assert isinstance(history, PackedHistory)
        room = history_room(state.history_steps, decoder.context_steps)
        # a capture reads weights and ranges at their old addresses
        places = tuple(x.data_ptr() for x in (*decoder.network.parameters(), *decoder.tokenizer.buffers()))
        sizes = (rows, room, state.horizon, history.layers[0].dtype, action.dtype, action.device)
        key = (*sizes, decoder.options, places)
        if key in self._steps:
            self._steps.move_to_end(key)
            return self._steps[key]
        while len(self._steps) >= _MOST_KEPT:
            self._steps.popitem(last=False)
        if self._pool is None and action.is_cuda:
            self._pool = torch.cuda.graph_pool_handle()
        # buffers made in inference mode could not be written to outside of it
        with torch.inference_mode(False), torch.no_grad():
            self._steps[key] = CapturedStep(decoder, state, action, pool=self._pool)
        return self._steps[key]


def can_replay(state: TransformerState) -> bool:
    """Whether rows come directly from ``start`` and ``take``, in equal numbers per history, in order."""
    fresh = state.imagined is None and state.time == 0
    return fresh and state.grouping.in_order and isinstance(state.history, PackedHistory)


@torch.no_grad()
def captured_rollout(
    decoder: Decoder,
    captured: CapturedSteps,
    state: TransformerState,
    actions: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Rollout:
    """A rollout that equals ``H`` steps one by one. Consumes ``state``.

    Args:
        decoder: The decoder that imagines.
        captured: Steps that were captured before; new ones are added.
        state: ``N`` rows for which :func:`can_replay` is true.
        actions: ``[N, H, m]``.
        generator: Source of the draws, with ``read="sample"``; the draws are those of steps one by one.

    Raises:
        RuntimeError: If ``state`` was consumed, or fewer than ``H`` steps may be imagined from it.
    """
    horizon = actions.shape[1]
    state.check_usable()
    state.check_horizon(horizon)
    state.consumed = True
    with captured.lock:
        step = captured.step(decoder, state, actions[:, 0])
        rows = step.rows
        rows.load(state)
        steps = []
        for time in range(horizon):
            rows.action.copy_(actions[:, time])
            draws = decoder.draws(state.rows, generator)
            if draws is not None:
                rows.draws.copy_(draws)
            step()
            survival = rows.survival.clone() if decoder.terminates and draws is None else None
            steps.append(Step(rows.observation.clone(), rows.value.clone(), rows.alive.clone(), survival))
        return Rollout.of(steps, rows.continued(state, horizon))
