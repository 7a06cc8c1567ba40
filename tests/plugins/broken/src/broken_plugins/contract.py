"""Classes that are not what their entry points say, and one that takes a name of ours."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NoPlan:
    """A planner that does not plan."""

    horizon: int = 5

    def init(self, spec: Any, batch: int) -> None:
        """Nothing to remember."""


@dataclass(frozen=True)
class Clash(NoPlan):
    """A planner of a name that is taken."""

    def plan(self, model: Any, state: Any, carry: Any, *, elapsed: Any, generator: Any) -> Any:
        """Never reached."""
        raise NotImplementedError


class NoTake:
    """A world model whose states cannot be gathered."""

    def start(self, history: Any, *, horizon: int) -> Any:
        """The present."""
        return history.observation[:, -1]

    def step(self, state: Any, action: Any, *, generator: Any = None) -> Any:
        """Nothing changes."""
        return state, None
