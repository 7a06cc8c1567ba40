"""A world model in closed form: linear dynamics, quadratic cost, a known optimum.

It is also the shortest example of a world model that keeps the whole contract of
:class:`tdm_agents.protocols.WorldModel`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from tdm_agents.protocols import History, ModelSpec, Proposal, Step

_MADE: dict[str, Any] = {"device": "cpu", "dtype": torch.float32}


@dataclass(slots=True)
class LinearQuadraticState:
    """``N`` rows of positions and velocities; ``None`` once consumed.

    Attributes:
        value: The rows ``[N, 2m]``, or None.
    """

    value: Tensor | None

    def read(self) -> Tensor:
        """The rows ``[N, 2m]``.

        Raises:
            RuntimeError: If the state was consumed.
        """
        if self.value is None:
            raise RuntimeError("this state was consumed by step(); take() its rows first to keep them")
        return self.value

    def consume(self) -> Tensor:
        """The rows ``[N, 2m]``; the state cannot be used afterwards."""
        value, self.value = self.read(), None
        return value


class LinearQuadraticModel:
    """``m`` point masses pushed along a line towards 0, by actions in [-1, 1].

    Position and velocity ``x = (p, v)`` follow ``v' = v + dt a``, ``p' = p + dt v'``, and the reward is
    ``-(|p'|^2 + |v'|^2 / 10 + effort |a|^2)``. Rewards are never above 0, which exposes a planner that maps
    NaN to 0.

    Args:
        action_dim: ``m``, the number of point masses.
        dt: Time step in seconds.
        effort: Weight of the squared action.
        choices: If given, actions are discrete: that many levels, at least 2, evenly spaced from -1 to 1.
        imagines_observations: False leaves observations out of imagined steps, as latent models do.
    """

    def __init__(
        self,
        action_dim: int = 1,
        *,
        dt: float = 0.5,
        effort: float = 0.3,
        choices: int | None = None,
        imagines_observations: bool = True,
    ) -> None:
        n = 2 * action_dim
        self.levels = None if choices is None else torch.linspace(-1.0, 1.0, choices, **_MADE)
        action_space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (action_dim,), np.float32)
        if choices is not None:
            action_space = spaces.MultiDiscrete([choices] * action_dim)
        self._spec = ModelSpec(
            observation_space=spaces.Box(-np.inf, np.inf, (n,), np.float32),
            action_space=action_space,
            observation_dim=n,
            action_dim=action_dim,
            action_kind="continuous" if choices is None else "discrete",
            action_choices=() if choices is None else (choices,) * action_dim,
            imagines_observations=imagines_observations,
        )
        eye = torch.eye(action_dim, **_MADE)
        self.transition = torch.cat(
            [torch.cat([eye, dt * eye], dim=1), torch.cat([0.0 * eye, eye], dim=1)]
        )  # [n, n]
        self.control = torch.cat([dt * dt * eye, dt * eye])  # [n, m]
        self.cost = torch.full((n,), 0.1, **_MADE)  # [n], diagonal
        self.cost[:action_dim] = 1.0
        self.effort = effort

    @property
    def spec(self) -> ModelSpec:
        """Spaces, sizes, device and dtype."""
        return self._spec

    def start(self, history: History, *, horizon: int) -> LinearQuadraticState:
        """The present observation ``[B, 2m]``, which is the whole state; ``horizon`` is not used."""
        return LinearQuadraticState(history.observation[:, -1].clone())

    def step(
        self, state: LinearQuadraticState, action: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[LinearQuadraticState, Step]:
        """One transition of every row, ``action[N, m]``; deterministic, so ``generator`` is not used.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        push = self.push(action)
        after = state.consume() @ self.transition.T + push @ self.control.T  # [N, n]
        reward = -(after.square() @ self.cost) - self.effort * push.square().sum(dim=1)
        alive = torch.ones(after.shape[0], dtype=torch.bool, device=after.device)
        observation = after.clone() if self.spec.imagines_observations else None
        return LinearQuadraticState(after), Step(observation=observation, reward=reward, alive=alive)

    def take(self, state: LinearQuadraticState, rows: Tensor) -> LinearQuadraticState:
        """A copy of the given rows (int64 ``[N']``, repeats allowed).

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        return LinearQuadraticState(state.read()[rows])

    def push(self, action: Tensor) -> Tensor:
        """Actions ``[..., m]`` as pushes in [-1, 1]; continuous actions already are."""
        return action if self.levels is None else self.levels[action]

    def optimum(self, observation: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
        """The best sequence and its value.

        Args:
            observation: ``[B, n]``.
            horizon: ``H``.

        Returns:
            Actions ``[B, H, m]`` and their value ``[B]``.
        """
        if self.levels is None:
            return self._least_squares(observation, horizon)
        return self._best_of_all(observation, horizon)

    def _best_of_all(self, observation: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
        """Tries every sequence of discrete actions."""
        every = [torch.arange(c, device="cpu") for c in self.spec.action_choices * horizon]
        sequences = torch.cartesian_prod(*every).view(-1, horizon, self.spec.action_dim)
        batch, count = observation.shape[0], sequences.shape[0]
        state = LinearQuadraticState(observation.repeat_interleave(count, dim=0))
        value = torch.zeros(batch * count, **_MADE)
        for t in range(horizon):
            state, step = self.step(state, sequences[:, t].repeat(batch, 1))
            value += step.reward
        best = value.view(batch, count).max(dim=1)
        return sequences[best.indices], best.values

    def _least_squares(self, observation: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
        """The best sequence without bounds and its value, by least squares over the whole horizon.

        States are affine in the stacked actions, ``X = F x_0 + G U``, so the cost is
        ``|sqrt(Q) (F x_0 + G U)|^2 + effort |U|^2`` and its minimum solves one linear system. It is the
        optimum of the bounded problem where no action leaves [-1, 1]. It is computed in float64.
        """
        a, b = self.transition.double(), self.control.double()
        n, m = b.shape
        powers = [torch.eye(n, dtype=torch.float64, device="cpu")]
        for _ in range(horizon):
            powers.append(a @ powers[-1])
        free = torch.cat(powers[1:])  # [H n, n]
        forced = torch.zeros(horizon * n, horizon * m, dtype=torch.float64, device="cpu")
        for t in range(horizon):
            for s in range(t + 1):
                forced[t * n : (t + 1) * n, s * m : (s + 1) * m] = powers[t - s] @ b
        weight = self.cost.double().repeat(horizon)[:, None]
        drift = free @ observation.double().T  # [H n, B]
        hessian = forced.T @ (weight * forced) + self.effort * torch.eye(
            horizon * m, dtype=torch.float64, device="cpu"
        )
        actions = torch.linalg.solve(hessian, -forced.T @ (weight * drift))  # [H m, B]
        states = drift + forced @ actions
        value = -(weight * states.square()).sum(dim=0) - self.effort * actions.square().sum(dim=0)
        return actions.T.reshape(-1, horizon, m).float(), value.float()


class LinearQuadraticExpert(LinearQuadraticModel):
    """The linear-quadratic model with its own best policy as a proposal, for planners that need one.

    It proposes the first action of the unbounded optimum over a long horizon, which is linear in the
    observation, and samples around it.

    Args:
        action_dim: ``m``.
        std: Standard deviation of sampled actions.
        choices: As in :class:`LinearQuadraticModel`; the nearest level is proposed.
        imagines_observations: As in :class:`LinearQuadraticModel`.
    """

    def __init__(
        self,
        action_dim: int = 1,
        *,
        std: float = 0.5,
        choices: int | None = None,
        imagines_observations: bool = True,
    ) -> None:
        super().__init__(action_dim, choices=choices, imagines_observations=imagines_observations)
        sequence, _ = self._least_squares(torch.eye(2 * action_dim, **_MADE), 30)
        self.gain = sequence[:, 0]  # [n, m]
        self.std = std

    def propose(
        self,
        state: LinearQuadraticState,
        count: int,
        *,
        generator: torch.Generator | None = None,
        deterministic: bool = False,
    ) -> Proposal:
        """Actions ``[N, count, m]`` without their probabilities; does not consume ``state``.

        Args:
            state: ``N`` rows.
            count: Actions per row.
            generator: Source of randomness of the samples.
            deterministic: The best action, ``count`` times, instead of samples around it.
        """
        push = (state.read() @ self.gain)[:, None].repeat(1, count, 1)  # [N, count, m]
        if not deterministic:
            push = push + self.std * torch.randn(push.shape, generator=generator, **_MADE)
        push = push.clamp(-1.0, 1.0)
        if self.levels is None:
            return Proposal(push)
        return Proposal((push[..., None] - self.levels).abs().argmin(dim=-1))
