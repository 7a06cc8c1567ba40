"""Rollouts that replay one imagined step: on a GPU a captured CUDA graph, elsewhere the same work."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tdm_agents.protocols import Rollout, Step
from tdm_agents.world_models.transformer.cache import Prefix
from tdm_agents.world_models.transformer.capture import captured
from tdm_agents.world_models.transformer.fixed import FixedRows, prefix_room
from tdm_agents.world_models.transformer.scalars import first_guess, next_guess, settled
from tdm_agents.world_models.transformer.state import TransformerState

if TYPE_CHECKING:
    from tdm_agents.world_models.transformer.model import TransformerWorldModel

_MOST_KEPT = 2
"""Captured sizes: rows that a planner imagines at once, and those that are left in the end."""


class ReplayedStep:
    """An imagined step of rows of certain sizes, captured.

    One after another it is one graph. Together it is three: up to the first guess, a round, and what follows
    the last round. Between rounds it is looked whether they suffice, as in :func:`.scalars.together`.

    Args:
        model: Whose step.
        state: Rows whose sizes count.
        action: ``[N, m]``, whose type counts.
        pool: Of memory that graphs share; they are replayed one at a time, and leave nothing in it.

    Attributes:
        rows: Before and after the step.
    """

    def __init__(
        self, model: TransformerWorldModel, state: TransformerState, action: Tensor, *, pool: Any
    ) -> None:
        self._model: Any = weakref.proxy(model)  # which has this step
        self._parts: list[Callable[[], object] | None]
        compiled = model.config.capture == "compiled"
        self.rows = FixedRows(model.network, state, model.layout, model.context_steps, compiled=compiled)
        self.rows.action = action.clone()
        self._uniform = self.rows.uniform if model.config.decoding == "sample" else None
        device, reset = action.device, self.rows.time.zero_
        if not model.config.parallel:
            self._parts = [captured(self._imagine, device, pool=pool, reset=reset)]
            return
        dim = model.layout.observation_dim
        self._hidden = model.network.head.weight.new_zeros((state.rows, model.network.config.width))
        self._guess = torch.zeros_like(self.rows.observation)
        self._first = self._guess[:, :1].clone()
        self._tokens = torch.zeros((state.rows, dim), dtype=torch.int64, device=device)
        self._changed = torch.zeros((), dtype=torch.bool, device=device)
        self._parts = [
            captured(self._guess_first, device, pool=pool, reset=reset),
            # after a first guess: before it, a token would see nothing
            captured(self._guess_next, device, pool=pool),
            captured(self._arrive, device, pool=pool),
        ]

    def __call__(self) -> None:
        """Imagine ``rows.action``."""
        if len(self._parts) == 1:
            (self._parts[0] or self._imagine)()
            return
        begin, guess, end = self._parts
        (begin or self._guess_first)()
        changed: list[Tensor] = []
        for _ in range(self._model.layout.observation_dim):
            (guess or self._guess_next)()
            changed.append(self._changed.clone())
            if settled(self.rows, changed):
                break
        (end or self._arrive)()

    def _imagine(self) -> None:
        self._model._imagine(self.rows, self.rows.action, self._uniform)

    def _guess_first(self) -> None:
        hidden = self._model._act(self.rows, self.rows.action)
        first, guess = first_guess(self._model, self.rows, hidden, self._uniform)
        self._first.copy_(first)
        self._tokens.copy_(self._model.tokenizer.encode_observation(guess))

    def _guess_next(self) -> None:
        dim = self._model.layout.observation_dim
        outputs = self._model._extend(self.rows, self._tokens, offset=0, outputs=dim)  # [N, n, d]
        guess = next_guess(self._model, self.rows, self._first, outputs, self._uniform)
        tokens = self._model.tokenizer.encode_observation(guess)
        self._changed.copy_((tokens != self._tokens).any())
        self._tokens.copy_(tokens)
        self._guess.copy_(guess)
        self._hidden.copy_(outputs[:, -1])

    def _arrive(self) -> None:
        self._model._arrive(self.rows, self._guess, self._hidden, self._uniform)


class Replays:
    """The steps that a model has captured last; copies of the model, and files, do not have them."""

    def __init__(self) -> None:
        self._steps: OrderedDict[tuple[object, ...], ReplayedStep] = OrderedDict()
        self._pool: Any = None

    def __deepcopy__(self, memo: object) -> Replays:
        return Replays()

    def __reduce__(self) -> tuple[type[Replays], tuple[()]]:
        return Replays, ()

    def step(self, model: TransformerWorldModel, state: TransformerState, action: Tensor) -> ReplayedStep:
        """A step of these sizes, captured now or before."""
        prefix, rows = state.prefix, (state.rows, state.prefix.batch)
        assert isinstance(prefix, Prefix)
        room = prefix_room(state.history_steps, model.context_steps, model.layout)
        # a capture reads weights and ranges where they were
        places = tuple(x.data_ptr() for x in (*model.network.parameters(), *model.tokenizer.buffers()))
        key = (rows, room, state.horizon, prefix.layers[0].dtype, action.dtype, action.device, places)
        if key in self._steps:
            self._steps.move_to_end(key)
            return self._steps[key]
        while len(self._steps) >= _MOST_KEPT:
            self._steps.popitem(last=False)
        if self._pool is None and action.is_cuda:
            self._pool = torch.cuda.graph_pool_handle()
        # buffers made in inference mode could not be written to outside of it
        with torch.inference_mode(False), torch.no_grad():
            self._steps[key] = ReplayedStep(model, state, action, pool=self._pool)
        return self._steps[key]


def can_replay(state: TransformerState) -> bool:
    """Whether rows are fresh from ``start`` and ``take``, prefix by prefix in equal counts."""
    fresh = state.suffix is None and state.time == 0
    return fresh and state.grouping.in_order and isinstance(state.prefix, Prefix)


@torch.no_grad()
def replayed_rollout(
    model: TransformerWorldModel,
    state: TransformerState,
    actions: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Rollout:
    """Equal to ``H`` steps of the model. Consumes ``state``.

    Args:
        model: Whose captured steps are used.
        state: ``N`` rows that :func:`can_replay`.
        actions: ``[N, H, m]``.
        generator: Of a sampling model's draws, which are those of steps one by one.

    Raises:
        RuntimeError: If ``state`` was consumed, or less than ``H`` steps may be imagined from it.
    """
    horizon = actions.shape[1]
    state.check_usable()
    state.check_horizon(horizon)
    state.consumed = True
    step = model.replays.step(model, state, actions[:, 0])
    rows = step.rows
    rows.load(state)
    steps = []
    for time in range(horizon):
        rows.action.copy_(actions[:, time])
        uniform = model._uniform(state.rows, generator)
        if uniform is not None:
            rows.uniform.copy_(uniform)
        step()
        steps.append(Step(rows.observation.clone(), rows.value.clone(), rows.alive.clone()))
    return Rollout.of(steps, rows.continued(state, horizon))
