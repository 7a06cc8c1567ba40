"""A wrapper that maximises a known function instead of the predicted reward."""

from __future__ import annotations

import inspect
from typing import TypeVar

import torch
from torch import Tensor

from tdm_agents.errors import WrongTypeError, WrongValueError
from tdm_agents.protocols import ModelSpec, RewardFn, Step, WorldModel, require_observations
from tdm_agents.protocols.columns import ColumnNames
from tdm_agents.spaces import ActionCodec, DiscreteActionCodec
from tdm_agents.spaces.scalar_labels import scalar_labels
from tdm_agents.wrappers.base import Wrapper

S = TypeVar("S")


class RewardFunction(Wrapper[S]):
    """A world model whose predicted reward is replaced by a known function of its predictions.

    The reward of a decision is ``fn(observation, action, next_observation) * action_repeat``: exact for
    ``action_repeat = 1``, and otherwise as if every environment step in the decision earned what the last one
    does. A row that predicts NaN earns NaN whatever ``fn`` returns, so that planners refuse it.

    Where the observation holds a goal (:mod:`tdm_agents.spaces.goals`), the desired goal stays what it is at
    the start of an imagined future, whatever the model predicts.

    The wrapper is a ``HasRollout``, ``HasProposal``, ``HasValue``, ``HasTokens``, ``HasRowBytes`` or
    ``HasOnly`` exactly where ``model`` is one.

    Args:
        model: A world model that imagines observations.
        fn: Reward of one environment step: ``[N, n]``, ``[N, m]`` in the environment's physical units,
            ``[N, n]`` to ``[N]``; ``tdm_envs.rewards.reward_function(env_id)`` has those of known tasks.
            Columns of observations can be asked for by name, see
            :class:`tdm_agents.protocols.columns.Columns`.

    Raises:
        TypeError: If ``fn`` does not take three arguments; or, where a step is imagined, if it does not
            return a tensor.
        ValueError: If ``model`` imagines no observations; or, where a step is imagined, if ``fn`` does not
            return one reward per row.

    Attributes:
        model: The wrapped model.
        fn: The reward function.
    """

    fn: RewardFn

    def __init__(self, model: WorldModel[S], fn: RewardFn) -> None:
        super().__init__(model, fn)
        require_observations(
            model,
            "a reward function",
            instead="plan for the model's own reward (reward_function='predicted'; null in agent.json), or "
            "use a model that imagines observations",
        )
        check_reward_fn(fn)
        self.fn = fn
        self._names = ColumnNames(scalar_labels(self.spec.observation_space, self.spec.observation_names))

    def _reward(self, observation: Tensor | None, action: Tensor, step: Step) -> Tensor:
        next_observation = step.observation
        assert observation is not None and next_observation is not None
        physical = _physical(self.spec, action)
        reward = rewards_of(self.fn, self._names, observation, physical, next_observation)
        reward = reward.to(observation.dtype) * self.spec.action_repeat
        return torch.where(next_observation.isnan().any(-1), torch.nan, reward)


def check_reward_fn(fn: RewardFn) -> None:
    """Refuse a function that does not take an observation, an action and the next observation.

    Raises:
        TypeError: If it does not.
    """
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # some built-in functions have none
        return
    try:
        signature.bind(None, None, None)
    except TypeError as error:
        name = getattr(fn, "__name__", repr(fn))
        raise WrongTypeError(
            f"the reward function is {name}{signature}, which cannot be called with three arguments "
            f"({error}); expected {name}(observation, action, next_observation)"
        ) from error


def rewards_of(
    fn: RewardFn, names: ColumnNames, observation: Tensor, action: Tensor, next_observation: Tensor
) -> Tensor:
    """What a reward function says of ``N`` environment steps, ``[N]``.

    Args:
        fn: The function.
        names: Names of the observation's columns.
        observation: ``[N, n]``.
        action: ``[N, m]`` in the environment's physical units.
        next_observation: ``[N, n]``.

    Raises:
        TypeError: If it does not return a tensor.
        ValueError: If it does not return one reward per row.
    """
    reward = fn(names.of(observation), action, names.of(next_observation))
    if not isinstance(reward, Tensor):
        raise WrongTypeError(
            f"the reward function returned {type(reward).__name__}; expected a tensor of one reward per "
            "row, computed from the tensors that it is given"
        )
    if reward.shape != observation.shape[:1]:
        raise WrongValueError(
            f"the reward function returned shape {tuple(reward.shape)} for {len(observation)} rows; "
            f"expected [{len(observation)}], one reward per row"
        )
    return reward


def _physical(spec: ModelSpec, action: Tensor) -> Tensor:
    """A model's actions ``[N, m]`` in the environment's units; discrete ones are counted from its start."""
    if spec.action_kind == "discrete":
        return action + torch.as_tensor(DiscreteActionCodec(spec.action_space).start, device=action.device)
    codec = ActionCodec(spec.action_space)
    low, high = (torch.as_tensor(bound, device="cpu").to(action) for bound in (codec.low, codec.high))
    physical = torch.clamp(high / 2 + low / 2 + (high / 2 - low / 2) * action, low, high)
    return physical.round() if codec.whole else physical
