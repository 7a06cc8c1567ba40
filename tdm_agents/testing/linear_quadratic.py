"""A world model in closed form: linear dynamics, quadratic cost, a known optimum.

Also the shortest example of a world model that keeps the whole contract of
:class:`tdm_agents.protocols.WorldModel`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from tdm_agents.protocols import History, ModelSpec, Step


@dataclass(slots=True)
class LinearQuadraticState:
    """``N`` rows of positions and velocities; ``None`` once consumed.

    Attributes:
        value: ``[N, 2m]`` or None.
    """

    value: Tensor | None

    def read(self) -> Tensor:
        """The rows.

        Raises:
            RuntimeError: If the state was consumed.
        """
        if self.value is None:
            raise RuntimeError("this state was consumed by step(); take() its rows first to keep them")
        return self.value

    def consume(self) -> Tensor:
        """The rows, for the last time."""
        value, self.value = self.read(), None
        return value


class LinearQuadraticModel:
    """``m`` point masses pushed along a line towards 0, by actions in [-1, 1].

    Position and velocity ``x = (p, v)`` follow ``v' = v + dt a``, ``p' = p + dt v'``, and the reward is
    ``-(|p'|^2 + |v'|^2 / 10 + effort |a|^2)``. Rewards are never above 0, so that a planner that maps NaN
    to 0 is found out.

    Args:
        action_dim: ``m``.
        dt: Time step in seconds.
        effort: Weight of the squared action.
    """

    def __init__(self, action_dim: int = 1, *, dt: float = 0.5, effort: float = 0.3) -> None:
        n = 2 * action_dim
        self._spec = ModelSpec(
            observation_space=spaces.Box(-np.inf, np.inf, (n,), np.float32),
            action_space=spaces.Box(-1.0, 1.0, (action_dim,), np.float32),
            observation_dim=n,
            action_dim=action_dim,
        )
        eye = torch.eye(action_dim)
        self.transition = torch.cat(
            [torch.cat([eye, dt * eye], dim=1), torch.cat([0.0 * eye, eye], dim=1)]
        )  # [n, n]
        self.control = torch.cat([dt * dt * eye, dt * eye])  # [n, m]
        self.cost = torch.cat([torch.ones(action_dim), torch.full((action_dim,), 0.1)])  # [n], diagonal
        self.effort = effort

    @property
    def spec(self) -> ModelSpec:
        """Spaces, sizes, device and dtype."""
        return self._spec

    def start(self, history: History, *, horizon: int) -> LinearQuadraticState:
        """The present observation is the whole state."""
        return LinearQuadraticState(history.observation[:, -1].clone())

    def step(
        self, state: LinearQuadraticState, action: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[LinearQuadraticState, Step]:
        """One transition of every row; deterministic, so ``generator`` is not used."""
        after = state.consume() @ self.transition.T + action @ self.control.T  # [N, n]
        reward = -(after.square() @ self.cost) - self.effort * action.square().sum(dim=1)
        alive = torch.ones(after.shape[0], dtype=torch.bool, device=after.device)
        return LinearQuadraticState(after), Step(observation=after.clone(), reward=reward, alive=alive)

    def take(self, state: LinearQuadraticState, rows: Tensor) -> LinearQuadraticState:
        """A copy of the given rows."""
        return LinearQuadraticState(state.read()[rows])

    def optimum(self, observation: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
        """The best sequence and its value if actions had no bounds: least squares over the whole horizon.

        States are affine in the stacked actions, ``X = F x_0 + G U``, so the cost is
        ``|sqrt(Q) (F x_0 + G U)|^2 + effort |U|^2`` and its minimum solves one linear system. It is the
        optimum of the bounded problem where no action leaves [-1, 1].

        Args:
            observation: ``[B, n]``.
            horizon: ``H``.

        Returns:
            Actions ``[B, H, m]`` and their value ``[B]``, computed in float64.
        """
        a, b = self.transition.double(), self.control.double()
        n, m = b.shape
        powers = [torch.eye(n, dtype=torch.float64)]
        for _ in range(horizon):
            powers.append(a @ powers[-1])
        free = torch.cat(powers[1:])  # [H n, n]
        forced = torch.zeros(horizon * n, horizon * m, dtype=torch.float64)
        for t in range(horizon):
            for s in range(t + 1):
                forced[t * n : (t + 1) * n, s * m : (s + 1) * m] = powers[t - s] @ b
        weight = self.cost.double().repeat(horizon)[:, None]
        drift = free @ observation.double().T  # [H n, B]
        hessian = forced.T @ (weight * forced) + self.effort * torch.eye(horizon * m, dtype=torch.float64)
        actions = torch.linalg.solve(hessian, -forced.T @ (weight * drift))  # [H m, B]
        states = drift + forced @ actions
        value = -(weight * states.square()).sum(dim=0) - self.effort * actions.square().sum(dim=0)
        return actions.T.reshape(-1, horizon, m).float(), value.float()
