"""Classes that are not what their entry points say, and one that takes one of our names."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NoPlan:
    """A planner that does not plan."""

    horizon: int = 5

    def init(self, spec: Any, batch: int) -> None:
        """None: nothing is remembered."""


@dataclass(frozen=True)
class Clash(NoPlan):
    """A planner whose name is taken."""

    def plan(self, model: Any, state: Any, carry: Any, *, elapsed: Any, generator: Any) -> Any:
        """Never reached."""
        raise NotImplementedError


class NoTake:
    """A world model whose states cannot be gathered."""

    def start(self, history: Any, *, horizon: int) -> Any:
        """The history itself."""
        return history.observation[:, -1]

    def step(self, state: Any, action: Any, *, generator: Any = None) -> Any:
        """Change nothing."""
        return state, None
