"""Rollouts that replay one imagined step: on a GPU a captured CUDA graph, elsewhere the same work."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tdm_agents.protocols import Rollout, Step
from tdm_agents.world_models.transformer.capture import captured
from tdm_agents.world_models.transformer.fixed import FixedRows, prefix_room
from tdm_agents.world_models.transformer.scalars import first_guess, next_guess, settled
from tdm_agents.world_models.transformer.state import TransformerState

if TYPE_CHECKING:
    from tdm_agents.world_models.transformer.model import TransformerWorldModel

_MOST_KEPT = 4
"""Captured sizes: a planner's first rows at once, its last ones, and so for two lengths of the history."""


class ReplayedStep:
    """An imagined step of rows of certain sizes, captured.

    One after another it is one graph. Together it is three: up to the first guess, a round, and what follows
    the last round. Between rounds it is looked whether they suffice, as in :func:`.scalars.together`.

    Args:
        model: Whose step.
        state: Rows whose sizes count.
        action: ``[N, m]``, whose type counts.

    Attributes:
        rows: Before and after the step.
    """

    def __init__(self, model: TransformerWorldModel, state: TransformerState, action: Tensor) -> None:
        self._model = model
        compiled = model.config.capture == "compiled"
        self.rows = FixedRows(model.network, state, model.layout, model.context_steps, compiled=compiled)
        self.rows.action = action.clone()
        self._uniform = self.rows.uniform if model.config.decoding == "sample" else None
        device, reset = action.device, self.rows.time.zero_
        self._whole = self._begin = self._round = self._end = None
        if not model.config.parallel:
            self._whole = captured(self._imagine, device, reset=reset)
            return
        dim = model.layout.observation_dim
        self._hidden = model.network.head.weight.new_zeros((state.rows, model.network.config.width))
        self._guess = torch.zeros_like(self.rows.observation)
        self._first = self._guess[:, :1].clone()
        self._tokens = torch.zeros((state.rows, dim), dtype=torch.int64, device=device)
        self._changed = torch.zeros((), dtype=torch.bool, device=device)
        self._begin = captured(self._guess_first, device, reset=reset)
        self._round = captured(self._guess_next, device, reset=reset)
        self._end = captured(self._arrive, device, reset=reset)

    def __call__(self) -> None:
        """Imagine ``rows.action``."""
        if self._whole is not None:
            self._whole()
            return
        assert self._begin is not None and self._round is not None and self._end is not None
        self._begin()
        changed: list[Tensor] = []
        for _ in range(self._model.layout.observation_dim):
            self._round()
            changed.append(self._changed.clone())
            if settled(self.rows, changed):
                break
        self._end()

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

    def __deepcopy__(self, memo: object) -> Replays:
        return Replays()

    def __reduce__(self) -> tuple[type[Replays], tuple[()]]:
        return Replays, ()

    def step(self, model: TransformerWorldModel, state: TransformerState, action: Tensor) -> ReplayedStep:
        """A step of these sizes, captured now or before."""
        prefix, rows = state.prefix, (state.rows, state.prefix.batch)
        room = prefix_room(state.history_steps, model.context_steps, model.layout)
        # a capture reads weights and ranges where they were
        places = tuple(x.data_ptr() for x in (*model.network.parameters(), *model.tokenizer.buffers()))
        key = (rows, room, state.horizon, prefix.layers[0].dtype, action.dtype, action.device, places)
        step = self._steps.pop(key, None) or ReplayedStep(model, state, action)
        self._steps[key] = step
        while len(self._steps) > _MOST_KEPT:
            self._steps.popitem(last=False)
        return step


def can_replay(state: TransformerState) -> bool:
    """Whether rows are fresh from ``start`` and ``take``, prefix by prefix in equal counts."""
    return state.suffix is None and state.time == 0 and state.grouping.in_order


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
    state.check_usable()
    horizon = actions.shape[1]
    if horizon > state.horizon:
        raise RuntimeError(
            f"{horizon} steps are to be imagined from a state with a horizon of {state.horizon}; "
            "call start with a longer horizon"
        )
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
