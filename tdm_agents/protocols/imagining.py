"""World models, with which planners imagine, and their optional capabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from tdm_agents.protocols.values import History, ModelSpec, Proposal, Rollout, Step

S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)


@runtime_checkable
class WorldModel(Protocol[S]):
    """The dynamics a planner imagines with.

    State is a value with one owner: :meth:`step` consumes the state it is given (buffers may be reused) and
    using a consumed state raises ``RuntimeError``. To keep a state, :meth:`take` its rows first.
    """

    @property
    def spec(self) -> ModelSpec:
        """Spaces, sizes, time step, device and dtype."""
        ...

    def start(self, history: History, *, horizon: int) -> S:
        """Read the history and begin to imagine.

        Args:
            history: What has happened in ``B`` environments, on the model's device.
            horizon: Number of steps that will be imagined from here, at least 1.

        Returns:
            A state of ``B`` rows.

        Raises:
            ValueError: If the history does not fit the model's observations and actions.
        """
        ...

    def step(self, state: S, action: Tensor, *, generator: torch.Generator | None = None) -> tuple[S, Step]:
        """Imagine one transition.

        Args:
            state: ``N`` rows; consumed.
            action: ``[N, m]``, float in [-1, 1] or int64 choices.
            generator: Source of randomness of a sampling model, for all rows at once; None uses torch's own.

        Returns:
            The state of ``N`` rows after it, and what was imagined.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        ...

    def take(self, state: S, rows: Tensor) -> S:
        """A new state of the given rows (int64 ``[N']``, repeats allowed); ``state`` stays usable.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        ...


@runtime_checkable
class HasRollout(Protocol[S_contra]):
    """A model that imagines whole action sequences in one call."""

    def rollout(
        self, state: S_contra, actions: Tensor, *, generator: torch.Generator | None = None
    ) -> Rollout:
        """Equal to ``H`` calls of ``step`` with the same generator.

        Args:
            state: ``N`` rows; consumed.
            actions: ``[N, H, m]``, float in [-1, 1] or int64 choices.
            generator: As for ``step``.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        ...


@runtime_checkable
class HasProposal(Protocol[S_contra]):
    """A model that knows what a good policy would do."""

    def propose(
        self,
        state: S_contra,
        count: int,
        *,
        generator: torch.Generator | None = None,
        deterministic: bool = False,
    ) -> Proposal:
        """``count`` actions per row.

        Args:
            state: ``N`` rows; stays usable.
            count: Actions per row, at least 1.
            generator: Source of randomness of sampled actions.
            deterministic: The mean or likeliest action, ``count`` times, instead of sampled ones.
        """
        ...


@runtime_checkable
class HasValue(Protocol[S_contra]):
    """A model that knows what a state is worth beyond the horizon."""

    def value(self, state: S_contra) -> Tensor:
        """The value ``[N]`` from this state on, in the units of the reward; does not consume ``state``."""
        ...


class Draft(Protocol):
    """Transitions of ``N`` rows that are being written token by token.

    There is one token per scalar: the ``m`` of the action, then the ``n`` of the next observation and the
    reward. A draft is a value with one owner, as a model's state is: :meth:`push` and :meth:`finish` consume
    it, and using a consumed draft raises ``RuntimeError``.
    """

    def log_probs(self) -> Tensor:
        """Log-probabilities ``[N, V]`` of the next token; ``V`` may differ from scalar to scalar."""
        ...

    def push(self, token: Tensor) -> Draft:
        """The drafts with one more token each, int64 ``[N]``; consumes this one."""
        ...

    def take(self, rows: Tensor) -> Draft:
        """A new draft of the given rows (int64 ``[N']``, repeats allowed); this one stays usable."""
        ...

    def finish(self) -> tuple[Any, Tensor, Step]:
        """Complete transitions: the model's states after them, their actions ``[N, m]``, and the steps."""
        ...


@runtime_checkable
class HasTokens(Protocol[S_contra]):
    """A model whose transitions are tokens, so that a search may choose inside a transition.

    It imagines observations: their scalars are among the tokens.
    """

    def draft(self, state: S_contra) -> Draft:
        """Transitions of ``N`` rows with no token written yet; consumes ``state``."""
        ...


@runtime_checkable
class HasRowBytes(Protocol[S_contra]):
    """A model that knows how much memory a row takes, so that a planner can keep to a budget."""

    def row_bytes(self, state: S_contra, *, horizon: int) -> int:
        """Bytes that each row imagined from ``state`` needs, beyond what rows share; does not consume it.

        Args:
            state: A state from :meth:`WorldModel.start`.
            horizon: Number of steps that are imagined.
        """
        ...


@runtime_checkable
class HasOnly(Protocol):
    """A model bound to live environments that can be narrowed to some of them (the simulator)."""

    def only(self, rows: Sequence[int]) -> WorldModel[Any]:
        """The same model over environments ``rows``."""
        ...


def rollout(
    model: WorldModel[Any], state: Any, actions: Tensor, *, generator: torch.Generator | None = None
) -> Rollout:
    """Imagine ``actions`` with the model's own ``rollout``, or step by step where it has none.

    Args:
        model: Any world model.
        state: ``N`` rows; consumed.
        actions: ``[N, H, m]``.
        generator: Source of randomness for sampling models.
    """
    if isinstance(model, HasRollout):
        return model.rollout(state, actions, generator=generator)
    return looped_rollout(model, state, actions, generator=generator)


def looped_rollout(
    model: WorldModel[Any], state: Any, actions: Tensor, *, generator: torch.Generator | None = None
) -> Rollout:
    """``H`` calls of ``model.step``; what every ``rollout`` must equal. Consumes ``state``."""
    steps: list[Step] = []
    for t in range(actions.shape[1]):
        state, step = model.step(state, actions[:, t], generator=generator)
        steps.append(step)
    return Rollout.of(steps, state)
