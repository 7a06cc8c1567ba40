"""What world models, planners and the agent say to each other.

Axes: ``B`` environments, ``K`` candidates an environment, ``N = B * K`` rows, ``H`` horizon (decisions),
``T`` steps of history, ``n`` observation scalars, ``m`` action scalars. Everything that passes between the
parts is a small frozen dataclass of tensors: a value, never hidden state.

Units: observations are the flat float32 vector of :mod:`tdm_agents.spaces` in the environment's own units;
continuous actions are float32 in [-1, 1]; discrete actions are int64, one component a scalar; rewards are in
the environment's own units, summed over the model's ``action_repeat`` environment steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from gymnasium import spaces
from torch import Tensor

S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)

ActionKind = Literal["continuous", "discrete"]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a world model models.

    Attributes:
        observation_space: The environment's space, before flattening.
        action_space: The environment's space; ``Box``, ``Discrete`` or ``MultiDiscrete``.
        observation_dim: ``n``, scalars of the flat observation.
        action_dim: ``m``, scalars of an action.
        action_kind: ``"continuous"`` (float32 in [-1, 1]) or ``"discrete"`` (int64).
        action_choices: Number of choices of each discrete component; empty where continuous.
        action_repeat: Environment steps a decision; the model's own time step.
        history_steps: Most recent steps of history that the model can use; at least 1.
        terminates: Whether ``alive`` may become False.
        device: Where the model computes; planners draw their samples there.
        dtype: Floating dtype of observations, rewards and continuous actions.
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
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True, slots=True)
class History:
    """What happened so far in ``B`` environments, one entry a decision; the last entry is now.

    Rows of different lengths are padded on the left, so that index ``T - 1`` is the present for every row.

    Attributes:
        observation: ``[B, T, n]``; the last one is the present observation. Padding is 0.
        reward: ``[B, T]``; the reward that arrived *with* each observation, NaN where unknown or first.
        action: ``[B, T - 1, m]``; ``action[:, t]`` was taken after ``observation[:, t]``. Padding is 0.
        length: ``[B]`` int64; how many of the ``T`` entries are real, at least 1.
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


@dataclass(frozen=True, slots=True)
class Step:
    """One imagined transition a row.

    Attributes:
        observation: ``[N, n]`` after the action.
        reward: ``[N]``, that arrives with it.
        alive: ``[N]`` bool; False where the episode terminated in this transition.
    """

    observation: Tensor
    reward: Tensor
    alive: Tensor


@dataclass(frozen=True, slots=True)
class Rollout:
    """``H`` imagined transitions a row.

    Attributes:
        observation: ``[N, H, n]``.
        reward: ``[N, H]``. What either says of a row after its end is meaningless: a model may stop imagining
            it. ``alive`` masks it; :func:`looped_rollout` goes on all the same.
        alive: ``[N, H]`` bool, after each transition; once False, False.
        state: The model state after the last transition; of rows that ended, any.
    """

    observation: Tensor
    reward: Tensor
    alive: Tensor
    state: Any

    @staticmethod
    def of(steps: Sequence[Step], state: Any) -> Rollout:
        """The steps of ``H`` transitions put together; once a row is dead, it stays dead."""
        alive = [steps[0].alive]
        for step in steps[1:]:
            alive.append(alive[-1] & step.alive)
        return Rollout(
            observation=torch.stack([s.observation for s in steps], dim=1),
            reward=torch.stack([s.reward for s in steps], dim=1),
            alive=torch.stack(alive, dim=1),
            state=state,
        )


@dataclass(frozen=True, slots=True)
class Proposal:
    """Actions that a proposal policy would take.

    Attributes:
        actions: ``[N, count, m]``.
        log_prob: ``[N, count]`` or None where unknown.
    """

    actions: Tensor
    log_prob: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a planner decided for ``B`` environments.

    Attributes:
        action: ``[B, m]`` to execute now.
        sequence: ``[B, H, m]`` of which ``action`` is the first.
        value: ``[B]``, what the planner believes ``sequence`` is worth.
        carry: Planner memory for the next decision; every tensor has a leading ``B``.
        stats: Counts and diagnostics, for example ``non_finite`` (rows refused) and ``transitions``.
    """

    action: Tensor
    sequence: Tensor
    value: Tensor
    carry: Any
    stats: Mapping[str, float] = field(default_factory=dict)


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
        """Read what has happened.

        Args:
            history: Of ``B`` environments, on the model's device.
            horizon: Steps that will be imagined from here, at least 1.

        Returns:
            A state of ``B`` rows.

        Raises:
            ValueError: If the history is not of the model's observations and actions.
        """
        ...

    def step(self, state: S, action: Tensor, *, generator: torch.Generator | None = None) -> tuple[S, Step]:
        """Imagine one transition.

        Args:
            state: ``N`` rows; consumed.
            action: ``[N, m]``, float in [-1, 1] or int64 choices.
            generator: Of a sampling model's draws, for all rows at once; None draws from torch's own.

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
        """``count`` actions a row.

        Args:
            state: ``N`` rows; stays usable.
            count: At least 1.
            generator: Of sampled actions.
            deterministic: The mean or likeliest action, ``count`` times, instead of sampled ones.
        """
        ...


@runtime_checkable
class HasValue(Protocol[S_contra]):
    """A model that knows what a state is worth beyond the horizon."""

    def value(self, state: S_contra) -> Tensor:
        """``[N]``, in the units of the reward, from this state on; does not consume ``state``."""
        ...


class Draft(Protocol):
    """Transitions of ``N`` rows that are being written token by token.

    One token a scalar: the ``m`` of the action, then what it leads to, the ``n`` of the next observation and
    the reward. A draft is a value with one owner, as a model's state is: :meth:`push` and :meth:`finish`
    consume it, and using a consumed one raises ``RuntimeError``.
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
        """Of complete transitions: the model's states after them, their actions ``[N, m]``, and the steps."""
        ...


@runtime_checkable
class HasTokens(Protocol[S_contra]):
    """A model whose transitions are tokens, so that a search may choose inside a transition."""

    def draft(self, state: S_contra) -> Draft:
        """Transitions of ``N`` rows of which nothing is written yet; consumes ``state``."""
        ...


@runtime_checkable
class HasRowBytes(Protocol[S_contra]):
    """A model that knows what it takes to imagine a row, so that a planner can keep to a memory budget."""

    def row_bytes(self, state: S_contra, *, horizon: int) -> int:
        """Bytes that each row imagined from a state needs, beyond what rows share; does not consume it.

        Args:
            state: From :meth:`WorldModel.start`.
            horizon: Steps that are imagined.
        """
        ...


@runtime_checkable
class HasOnly(Protocol):
    """A model bound to live environments that can be narrowed to some of them (the simulator)."""

    def only(self, rows: Sequence[int]) -> WorldModel[Any]:
        """The same model over environments ``rows``."""
        ...


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
        """Memory of ``batch`` environments that have not decided yet.

        None, or a frozen dataclass of tensors whose first axis is ``B``: the agent gathers and scatters rows.
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
                ``replan_every``; 0 = new episode, which forgets that row's memory and no other's. From
                ``horizon`` on nothing is left of what was planned.
            generator: The only source of randomness, on ``model.spec.device``.

        Raises:
            ValueError: If no candidate of an environment has a finite score.
        """
        ...


RewardFn = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``fn(observation[N, n], action[N, m], next_observation[N, n]) -> reward[N]`` of one environment step, with
actions in the environment's physical units."""


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
