"""Base class of wrappers: the present observation beside the wrapped state, and the model's capabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor

from tdm_agents.protocols import (
    Draft,
    HasOnly,
    HasProposal,
    HasRollout,
    HasRowBytes,
    HasTokens,
    HasValue,
    History,
    ModelSpec,
    Proposal,
    Rollout,
    Step,
    WorldModel,
    looped_rollout,
    reads_images,
)
from tdm_agents.spaces.goals import goal_columns, with_goal_of

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Observed(Generic[S]):
    """A model's state and the present observation.

    Attributes:
        inner: State of the wrapped model.
        observation: ``[N, n]``; None after a step of a model that imagines no observations.
    """

    inner: S
    observation: Tensor | None


class Wrapper(Generic[S]):
    """A world model around another one, which does the same except where a subclass overrides it.

    An imagined future keeps the goal that it began with, whatever the wrapped model predicts for it.

    An instance is a ``HasRollout``, ``HasProposal``, ``HasValue``, ``HasTokens``, ``HasRowBytes`` or
    ``HasOnly`` where the wrapped model is one, or where the subclass has the method itself.

    Args:
        model: Any world model.
        *settings: The other arguments of the subclass, in order: copies in other processes, or with fewer
            environments, are built from them.

    Attributes:
        model: The wrapped model.
    """

    model: WorldModel[S]
    _kind: type[Wrapper[Any]]

    def __new__(cls, model: WorldModel[S], *_: Any, **__: Any) -> Self:  # noqa: D102
        # isinstance against a runtime protocol looks at the class (statically from Python 3.12 on), not at
        # __getattr__, so capabilities are chosen as base classes
        kind: Any = cls
        able = tuple(mixin for capability, mixin in _CAPABILITIES if isinstance(model, capability))
        instance: Self = object.__new__(_with_capabilities(kind, able))
        return instance

    def __init__(self, model: WorldModel[S], *settings: Any) -> None:
        self.model = model
        self._settings = settings
        self._goal = goal_columns(model.spec.observation_space)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._kind, (self.model, *self._settings)  # the chosen class has no importable name

    def around(self, model: WorldModel[Any]) -> Wrapper[Any]:
        """The same wrapper around another model."""
        return self._kind(model, *self._settings)

    @property
    def reads_images(self) -> bool:
        """Whether the wrapped model reads images."""
        return reads_images(self.model)

    @property
    def spec(self) -> ModelSpec:
        """The wrapped model's spec."""
        return self.model.spec

    def start(self, history: History, *, horizon: int) -> Observed[S]:
        """The wrapped model's state beside the last observation of ``history``."""
        observation = history.observation[:, -1].to(self.spec.device, self.spec.dtype)
        return Observed(self.model.start(history, horizon=horizon), observation)

    def step(
        self, state: Observed[S], action: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Observed[S], Step]:
        """One transition of the wrapped model, ``action[N, m]``; consumes ``state``."""
        inner, step = self.model.step(state.inner, action, generator=generator)
        return self._observed(state.observation, action, inner, step)

    def take(self, state: Observed[S], rows: Tensor) -> Observed[S]:
        """The given rows of the state and its observation; ``state`` stays usable."""
        return Observed(self.model.take(state.inner, rows), _rows(state.observation, rows))

    def _observed(
        self, observation: Tensor | None, action: Tensor, inner: S, step: Step
    ) -> tuple[Observed[S], Step]:
        """The wrapped model's transition from ``observation[N, n]`` to ``inner``, as this model sees it."""
        step = replace(step, observation=self._seen(observation, step.observation))
        after = replace(
            step,
            reward=self._reward(observation, action, step),
            alive=self._alive(step.alive),
            survival=step.survival if type(self)._alive is Wrapper._alive else None,
        )
        return Observed(inner, step.observation), after

    def _seen(self, before: Tensor | None, imagined: Tensor | None) -> Tensor | None:
        """Observations ``[N, n]`` or ``[N, H, n]`` that were imagined from ``before[N, n]``, of its goal."""
        if before is None or imagined is None:
            return imagined
        return with_goal_of(before if imagined.ndim == 2 else before[:, None], imagined, self._goal)

    def _reward(self, observation: Tensor | None, action: Tensor, step: Step) -> Tensor:
        """Reward ``[N]`` of the wrapped model's ``step`` from ``observation[N, n]`` by ``action[N, m]``."""
        return step.reward

    def _alive(self, predicted: Tensor) -> Tensor:
        """Whether rows are alive, of any shape, given the wrapped model's prediction."""
        return predicted


class _Rollout(Wrapper[S]):
    def rollout(
        self, state: Observed[S], actions: Tensor, *, generator: torch.Generator | None = None
    ) -> Rollout:
        """The wrapped model's rollout; the rewards of all steps are computed at once."""
        assert isinstance(self.model, HasRollout)
        if type(self)._alive is not Wrapper._alive:  # a rollout's entries of ended rows are meaningless
            return looped_rollout(self, state, actions, generator=generator)
        imagined = self.model.rollout(state.inner, actions, generator=generator)
        before, after = None, self._seen(state.observation, imagined.observation)  # [N, H, n]
        if state.observation is not None and after is not None:
            before = torch.cat([state.observation[:, None], after[:, :-1]], dim=1).flatten(0, 1)
        step = Step(
            observation=None if after is None else after.flatten(0, 1),
            reward=imagined.reward.flatten(),
            alive=imagined.alive.flatten(),
        )  # [N H]
        reward = self._reward(before, actions.flatten(0, 1), step)
        return Rollout(
            observation=after,
            reward=reward.reshape(imagined.reward.shape),
            alive=self._alive(imagined.alive),
            state=Observed(imagined.state, None if after is None else after[:, -1]),
            survival=imagined.survival,
        )


class _Proposal(Wrapper[S]):
    def propose(
        self,
        state: Observed[S],
        count: int,
        *,
        generator: torch.Generator | None = None,
        deterministic: bool = False,
    ) -> Proposal:
        """The wrapped model's proposal."""
        assert isinstance(self.model, HasProposal)
        return self.model.propose(state.inner, count, generator=generator, deterministic=deterministic)


class _Value(Wrapper[S]):
    def value(self, state: Observed[S]) -> Tensor:
        """The wrapped model's value, of *its own* reward even if this wrapper changes the reward."""
        assert isinstance(self.model, HasValue)
        return self.model.value(state.inner)


class _Tokens(Wrapper[S]):
    def draft(self, state: Observed[S]) -> Draft:
        """The wrapped model's draft; this wrapper treats its finished transitions as it treats steps."""
        assert isinstance(self.model, HasTokens)
        return _ObservedDraft(self, self.model.draft(state.inner), state.observation)


@dataclass(frozen=True, slots=True)
class _ObservedDraft:
    wrapper: Wrapper[Any]
    inner: Draft
    observation: Tensor | None

    def log_probs(self) -> Tensor:
        return self.inner.log_probs()

    def push(self, token: Tensor) -> _ObservedDraft:
        return replace(self, inner=self.inner.push(token))

    def take(self, rows: Tensor) -> _ObservedDraft:
        return replace(self, inner=self.inner.take(rows), observation=_rows(self.observation, rows))

    def finish(self) -> tuple[Observed[Any], Tensor, Step]:
        inner, action, predicted = self.inner.finish()
        state, step = self.wrapper._observed(self.observation, action, inner, predicted)
        return state, action, step


class _RowBytes(Wrapper[S]):
    def row_bytes(self, state: Observed[S], *, horizon: int) -> int:
        """The wrapped model's row bytes; the one observation that a wrapper adds is little beside them."""
        assert isinstance(self.model, HasRowBytes)
        return self.model.row_bytes(state.inner, horizon=horizon)


class _Only(Wrapper[S]):
    def only(self, rows: Sequence[int]) -> Wrapper[Any]:
        """The same wrapper over some of the environments."""
        assert isinstance(self.model, HasOnly)
        return self.around(self.model.only(rows))


def _rows(observation: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if observation is None else observation[rows.to(observation.device)]


_CAPABILITIES: tuple[tuple[Any, type[Wrapper[Any]]], ...] = (
    (HasRollout, _Rollout),
    (HasProposal, _Proposal),
    (HasValue, _Value),
    (HasTokens, _Tokens),
    (HasRowBytes, _RowBytes),
    (HasOnly, _Only),
)


@cache
def _with_capabilities(kind: Any, able: tuple[Any, ...]) -> Any:
    # the wrapper's own methods come before the wrapped model's
    members = {"__module__": kind.__module__, "__doc__": kind.__doc__, "_kind": kind}
    return type(kind.__name__, (kind, *able), members)
