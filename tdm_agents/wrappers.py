"""World-model wrappers: what is maximised is chosen at test time, as Gymnasium wraps environments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from tdm_agents.protocols import (
    HasOnly,
    HasProposal,
    HasRollout,
    HasValue,
    History,
    ModelSpec,
    Proposal,
    RewardFn,
    Rollout,
    Step,
    WorldModel,
)
from tdm_agents.spaces import ActionCodec

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Observed(Generic[S]):
    """A model's state and the present observation.

    Attributes:
        inner: State of the wrapped model.
        observation: ``[N, n]``.
    """

    inner: S
    observation: Tensor


class RewardFunction(Generic[S]):
    """A world model whose predicted reward is replaced by a known function of what it predicts.

    The reward of a decision is ``fn(observation, action, next_observation) * action_repeat``: exact for
    ``action_repeat = 1``, otherwise as if every environment step in the decision earned what its last one
    does. A row that predicts NaN earns NaN whatever ``fn`` makes of it, so that planners refuse it.

    The wrapper is a ``HasRollout``, ``HasProposal``, ``HasValue`` or ``HasOnly`` exactly where ``model`` is
    one.

    Args:
        model: Any world model.
        fn: Reward of one environment step: ``[N, n]``, ``[N, m]`` in the environment's physical units,
            ``[N, n]`` to ``[N]``; ``tdm_envs.rewards.reward_function(env_id)`` has those of known tasks.

    Attributes:
        model: The wrapped model.
        fn: The reward function.
    """

    model: WorldModel[S]
    fn: RewardFn

    def __new__(cls, model: WorldModel[S], fn: RewardFn) -> RewardFunction[S]:  # noqa: D102
        # isinstance against a runtime protocol looks at the class (statically from Python 3.12 on), so that
        # capabilities are chosen as base classes; __getattr__ would not be seen
        kind: Any = cls
        able = tuple(mixin for capability, mixin in _CAPABILITIES if isinstance(model, capability))
        return object.__new__(_with_capabilities(kind, able))

    def __init__(self, model: WorldModel[S], fn: RewardFn) -> None:
        self.model = model
        self.fn = fn

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return RewardFunction, (self.model, self.fn)  # the chosen class has no importable name

    @property
    def spec(self) -> ModelSpec:
        """The wrapped model's."""
        return self.model.spec

    def start(self, history: History, *, horizon: int) -> Observed[S]:
        """The wrapped model's state beside the last observation of ``history``."""
        observation = history.observation[:, -1].to(self.spec.device, self.spec.dtype)
        return Observed(self.model.start(history, horizon=horizon), observation)

    def step(
        self, state: Observed[S], action: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Observed[S], Step]:
        """One transition with the known reward; consumes ``state``."""
        inner, step = self.model.step(state.inner, action, generator=generator)
        reward = self._reward(state.observation, action, step.observation)
        return Observed(inner, step.observation), Step(step.observation, reward, step.alive)

    def take(self, state: Observed[S], rows: Tensor) -> Observed[S]:
        """Rows of both; ``state`` stays usable."""
        return Observed(
            self.model.take(state.inner, rows), state.observation[rows.to(state.observation.device)]
        )

    def _reward(self, observation: Tensor, action: Tensor, next_observation: Tensor) -> Tensor:
        """``[N, n], [N, m], [N, n]`` to ``[N]``."""
        reward = self.fn(observation, _physical(self.spec, action), next_observation)
        if reward.shape != observation.shape[:1]:
            raise ValueError(
                f"the reward function returned shape {tuple(reward.shape)} for {len(observation)} rows; "
                f"expected [{len(observation)}], one reward a row"
            )
        reward = reward.to(observation.dtype) * self.spec.action_repeat
        return torch.where(next_observation.isnan().any(-1), torch.nan, reward)


class _Rollout(RewardFunction[S]):
    def rollout(
        self, state: Observed[S], actions: Tensor, *, generator: torch.Generator | None = None
    ) -> Rollout:
        """The wrapped model's rollout; the rewards of all steps are computed at once."""
        assert isinstance(self.model, HasRollout)
        imagined = self.model.rollout(state.inner, actions, generator=generator)
        after = imagined.observation  # [N, H, n]
        before = torch.cat([state.observation[:, None], after[:, :-1]], dim=1)
        reward = self._reward(before.flatten(0, 1), actions.flatten(0, 1), after.flatten(0, 1))
        return Rollout(
            observation=after,
            reward=reward.reshape(after.shape[:2]),
            alive=imagined.alive,
            state=Observed(imagined.state, after[:, -1]),
        )


class _Proposal(RewardFunction[S]):
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


class _Value(RewardFunction[S]):
    def value(self, state: Observed[S]) -> Tensor:
        """The wrapped model's value: of *its* reward, not of ``fn``."""
        assert isinstance(self.model, HasValue)
        return self.model.value(state.inner)


class _Only(RewardFunction[S]):
    def only(self, rows: Sequence[int]) -> RewardFunction[Any]:
        """The same reward function over some of the environments."""
        assert isinstance(self.model, HasOnly)
        return RewardFunction(self.model.only(rows), self.fn)


_CAPABILITIES: tuple[tuple[Any, type[RewardFunction[Any]]], ...] = (
    (HasRollout, _Rollout),
    (HasProposal, _Proposal),
    (HasValue, _Value),
    (HasOnly, _Only),
)


@cache
def _with_capabilities(cls: Any, able: tuple[Any, ...]) -> Any:
    return type(cls.__name__, (*able, cls), {"__module__": cls.__module__, "__doc__": cls.__doc__})


def _physical(spec: ModelSpec, action: Tensor) -> Tensor:
    """Actions ``[N, m]`` of a model in the environment's units; discrete actions are theirs already."""
    if spec.action_kind == "discrete":
        return action
    codec = ActionCodec(spec.action_space)
    low, high = (torch.as_tensor(bound).to(action) for bound in (codec.low, codec.high))
    return torch.clamp((high + low) / 2 + (high - low) / 2 * action, low, high)
