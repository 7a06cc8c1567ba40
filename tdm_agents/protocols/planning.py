"""Planners, which choose among imagined futures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from tdm_agents.protocols.deadlines import Deadline
from tdm_agents.protocols.imagining import WorldModel
from tdm_agents.protocols.traces import Trace
from tdm_agents.protocols.values import ModelSpec


@dataclass(frozen=True, slots=True)
class Plan:
    """The decision of a planner for ``B`` environments.

    Attributes:
        action: ``[B, m]`` to execute now.
        sequence: ``[B, H, m]`` of which ``action`` is the first.
        value: ``[B]``, what the planner believes ``sequence`` is worth.
        carry: Planner memory for the next decision; every tensor has a leading ``B``.
        stats: Counts and diagnostics by name; none is required. Reports add up two of them over an episode:
            ``transitions`` (imagined steps of all rows) and ``non_finite`` (rows refused because their value
            is NaN or inf); a missing one counts as 0.
        trace: What was considered, for a planner that keeps it and inside
            :func:`tdm_agents.protocols.tracing`; otherwise None.
    """

    action: Tensor
    sequence: Tensor
    value: Tensor
    carry: Any
    stats: Mapping[str, float] = field(default_factory=dict)
    trace: Trace | None = None


@runtime_checkable
class Planner(Protocol):
    """Chooses actions by imagining. A planner *is* a frozen dataclass of its settings, nothing else.

    Attributes:
        horizon: Decisions imagined ahead.
    """

    @property
    def horizon(self) -> int:
        """Decisions imagined ahead."""
        ...

    def init(self, spec: ModelSpec, batch: int) -> Any:
        """The planner's memory for ``batch`` environments that have not decided yet.

        It is None, or a frozen dataclass of tensors whose first axis is ``B``; the agent gathers and
        scatters its rows.
        """
        ...

    def plan(
        self,
        model: WorldModel[Any],
        state: Any,
        carry: Any,
        *,
        elapsed: Tensor,
        generator: torch.Generator,
    ) -> Plan:
        """Decide for ``B`` environments.

        Args:
            model: The world model; a planner that needs an optional capability says so in its error.
            state: ``model.start(...)`` of ``B`` rows. Not consumed.
            carry: Memory from :meth:`init` or the last plan.
            elapsed: ``[B]`` int64, decisions executed since that environment's last plan: 1, or up to
                ``replan_every``. 0 means a new episode: the memory of that row alone is forgotten. From
                ``horizon`` on, nothing of the last plan is left.
            generator: The only source of randomness, on ``model.spec.device``.

        Raises:
            ValueError: If no candidate of an environment has a finite score; the message names the
                environment. ``tdm`` prints a :class:`tdm_agents.errors.WrongValueError` as one line.
        """
        ...


@runtime_checkable
class AnytimePlanner(Planner, Protocol):
    """A planner that can stop early, with the best plan so far.

    Attributes:
        anytime: True; its presence tells this kind of planner.
    """

    anytime: ClassVar[bool]

    def plan(
        self,
        model: WorldModel[Any],
        state: Any,
        carry: Any,
        *,
        elapsed: Tensor,
        generator: torch.Generator,
        deadline: Deadline | None = None,
    ) -> Plan:
        """Decide before ``deadline``, if there is one, later by one imagined step at most.

        See :meth:`Planner.plan`. With a deadline ``stats`` also has ``samples`` and ``iterations``, as many
        as were imagined, and ``steps``, the number of steps by which candidates were compared.
        """
        ...
