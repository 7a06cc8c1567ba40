"""What a planner considered, kept for whoever wants to look: off unless somebody asks.

A planner asks :func:`tracing_wanted` once per plan, and fills :attr:`tdm_agents.protocols.Plan.trace` if it
is. Keeping costs references to tensors that exist anyway, and nothing where nobody asks; plans are the same
to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor

_WANTED: ContextVar[bool] = ContextVar("tracing_wanted", default=False)


@dataclass(frozen=True, slots=True)
class Considered:
    """The candidates of one iteration of a plan for ``B`` environments.

    Attributes:
        actions: ``[B, K, H, m]``, the candidates, as far as they were imagined.
        value: ``[B, K]``, what the planner believes each is worth; -inf where one was refused.
        observation: ``[B, K, H, n]``, what the model imagined for each; None where it imagines none, or the
            planner does not keep it.
    """

    actions: Tensor
    value: Tensor
    observation: Tensor | None = None


Trace = tuple[Considered, ...]
"""The iterations of a plan, in order."""


@contextmanager
def tracing() -> Iterator[None]:
    """Ask the planners that are called inside for the trace of their plans."""
    token = _WANTED.set(True)
    try:
        yield
    finally:
        _WANTED.reset(token)


def tracing_wanted() -> bool:
    """Whether the caller of a planner asked for the trace."""
    return _WANTED.get()
