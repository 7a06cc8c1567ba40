"""The values that world models, planners and the agent pass to each other.

Axes: ``B`` environments, ``K`` candidates per environment, ``N = B * K`` rows, ``H`` horizon (decisions),
``T`` steps of history, ``n`` observation scalars, ``m`` action scalars. Everything that passes between the
parts is a small frozen dataclass of tensors: a value, never hidden state.

Units: observations are the flat float32 vector of :mod:`tdm_agents.spaces` in the environment's own units;
continuous actions are float32 in [-1, 1]; discrete actions are int64, one component per scalar; rewards are
in the environment's own units, summed over the model's ``action_repeat`` environment steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from gymnasium import spaces
from torch import Tensor

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols.columns import Columns

ActionKind = Literal["continuous", "discrete"]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The spaces, sizes and time step of a world model.

    Attributes:
        observation_space: The environment's observation space, before flattening.
        action_space: The environment's action space: ``Box``, ``Discrete`` or ``MultiDiscrete``.
        observation_dim: ``n``, scalars of the flat observation.
        action_dim: ``m``, scalars of an action.
        action_kind: ``"continuous"`` (float32 in [-1, 1]) or ``"discrete"`` (int64).
        action_choices: Number of choices of each discrete component; empty where continuous.
        action_repeat: Environment steps per decision; the model's own time step.
        history_steps: Largest number of recent steps that the model can use, at least 1.
        terminates: Whether ``alive`` may become False.
        imagines_observations: Whether imagined steps have an observation. False for a model that imagines
            rewards, ends and values in a latent space and decodes nothing.
        device: Where the model computes; planners draw their samples there.
        dtype: Floating dtype of observations, rewards and continuous actions.
        observation_names: Name of each observation scalar, where the environment says them
            (:func:`tdm_agents.spaces.scalar_names.observation_names`); else empty.
    """

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    observation_dim: int
    action_dim: int
    action_kind: ActionKind = "continuous"
    action_choices: tuple[int, ...] = ()
    action_repeat: int = 1
    history_steps: int = 1
    terminates: bool = False
    imagines_observations: bool = True
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    observation_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """The past of ``B`` environments, one entry per decision; the last entry is the present.

    Rows of different lengths are padded on the left, so that index ``T - 1`` is the present for every row.

    Attributes:
        observation: ``[B, T, n]``; the last one is the present observation. Padding is 0.
        reward: ``[B, T]``; the reward that arrived *with* each observation, NaN where unknown or first.
        action: ``[B, T - 1, m]``; ``action[:, t]`` was taken after ``observation[:, t]``. Padding is 0.
        length: ``[B]`` int64; number of the ``T`` entries that are real, at least 1.
    """

    observation: Tensor
    reward: Tensor
    action: Tensor
    length: Tensor

    @property
    def batch(self) -> int:
        """Number of environments ``B``."""
        return self.observation.shape[0]

    @staticmethod
    def of_observation(observation: Tensor, *, action_dim: int, discrete: bool = False) -> History:
        """A history of the present observation alone.

        Args:
            observation: ``[B, n]``.
            action_dim: ``m``.
            discrete: Whether actions are int64.
        """
        batch = observation.shape[0]
        return History(
            observation=observation[:, None],
            reward=observation.new_full((batch, 1), float("nan")),
            action=observation.new_zeros((batch, 0, action_dim), dtype=torch.int64 if discrete else None),
            length=torch.ones(batch, dtype=torch.int64, device=observation.device),
        )


LEAST_SURVIVAL = 0.05
"""Probability of living below which an imagined row counts as ended."""


def lived(survival: Tensor) -> Tensor:
    """Probabilities that episodes have not ended, and 0 where they are low: there imagining may stop."""
    return torch.where(survival < LEAST_SURVIVAL, torch.zeros_like(survival), survival)


@dataclass(frozen=True, slots=True)
class Step:
    """One imagined transition per row.

    Attributes:
        observation: ``[N, n]`` after the action; None where ``spec.imagines_observations`` is False.
            Code that needs one calls :func:`~tdm_agents.protocols.observation_of`.
        reward: ``[N]``, the reward that arrives with it.
        alive: ``[N]`` bool; False where the episode terminated in this transition.
        survival: ``[N]``, the probability that it did not, of which ``alive`` is the likelier answer; None
            where the model says no more than that.
    """

    observation: Tensor | None
    reward: Tensor
    alive: Tensor
    survival: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    """``H`` imagined transitions per row.

    Attributes:
        observation: ``[N, H, n]``; None where ``spec.imagines_observations`` is False.
        reward: ``[N, H]``. After the end of a row, its observations and rewards are meaningless (a model may
            stop imagining it, though :func:`looped_rollout` goes on); ``alive`` masks them.
        alive: ``[N, H]`` bool, after each transition; it stays False once it is False. False also where
            ``survival`` is low.
        state: The model state after the last transition; rows that ended may hold anything.
        survival: ``[N, H]``, the probability that the episode has not ended after each transition; None where
            the model says no more than ``alive``.
    """

    observation: Tensor | None
    reward: Tensor
    alive: Tensor
    state: Any
    survival: Tensor | None = None

    @staticmethod
    def of(steps: Sequence[Step], state: Any) -> Rollout:
        """``H`` steps stacked into one rollout; a row that has ended stays ended.

        Raises:
            ValueError: If some steps have an observation and others have none.
        """
        alive = [steps[0].alive]
        for step in steps[1:]:
            alive.append(alive[-1] & step.alive)
        survival = [step.survival for step in steps if step.survival is not None]
        seen = [step.observation for step in steps if step.observation is not None]
        if len(seen) not in (0, len(steps)):
            raise WrongValueError(
                f"{len(seen)} of {len(steps)} imagined steps have an observation; expected all or none, as "
                "spec.imagines_observations says"
            )
        lives, survived = torch.stack(alive, dim=1), None
        if len(survival) == len(steps):
            survived = torch.stack(survival, dim=1).cumprod(dim=1)
            lives = lives & (survived >= LEAST_SURVIVAL)
        return Rollout(
            observation=torch.stack(seen, dim=1) if seen else None,
            reward=torch.stack([s.reward for s in steps], dim=1),
            alive=lives,
            state=state,
            survival=survived,
        )


@dataclass(frozen=True, slots=True)
class Proposal:
    """Actions that a proposal policy suggests.

    Attributes:
        actions: ``[N, count, m]``.
        log_prob: ``[N, count]`` or None where unknown.
    """

    actions: Tensor
    log_prob: Tensor | None = None


RewardFn = Callable[[Columns, Tensor, Columns], Tensor]
"""``fn(observation[N, n], action[N, m], next_observation[N, n]) -> reward[N]`` of one environment step, with
actions in the environment's physical units. Observations are tensors whose columns have names too."""
