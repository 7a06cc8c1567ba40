"""The state of a decoder's rows between two imagined steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tdm_agents.protocols import Step
from tdm_agents.world_models.transformer.decoding.cache import Capacity, HistoryCache, ImaginedCache
from tdm_agents.world_models.transformer.decoding.grouping import Grouping
from tdm_agents.world_models.transformer.decoding.token_view import View
from tdm_agents.world_models.transformer.network import TransformerNetwork


@dataclass(slots=True)
class TransformerState:
    """``N`` rows after the observation of decision step ``time``; 0 is the present.

    The reward, separator and action of that step are not in the keys and values yet: they are fed together,
    in one forward, once an action is chosen.

    Attributes:
        history: Keys and values of the histories, shared by the rows.
        grouping: The history that each row continues.
        imagined: Keys and values of what each row imagined; None until the first ``step``.
        capacity: Number of tokens that ``imagined`` holds.
        rotation: :meth:`TransformerNetwork.step_rotations` of every step.
        centres: ``[n + 1, bins]``, the value of each output bin: observation scalars, then the reward, and
            where returns are predicted those of the return.
        observation: ``[N, n]`` in the environment's units.
        reward: ``[N]`` int64, the token of the reward that came with it.
        history_steps: Number of steps in the histories, the present one included.
        horizon: Number of steps that may be imagined.
        to_go: ``[N]``, the predicted return after the last observation; None where none is predicted.
        time: Number of steps imagined so far.
        rounds: Rounds of guesses before the first check whether scalars still change; see :mod:`.together`.
        projections: Projections at step ``projected``, in the form that ``imagined`` takes.
        projected: The step of the tokens that were fed last; -1 at first.
        consumed: Whether ``step`` or ``rollout`` has taken over the buffers.
    """

    history: HistoryCache
    grouping: Grouping
    imagined: ImaginedCache | None
    capacity: Capacity
    rotation: Tensor
    centres: Tensor
    observation: Tensor
    reward: Tensor
    history_steps: int
    horizon: int
    to_go: Tensor | None = None
    time: int = 0
    rounds: int = 1
    projections: tuple[Tensor, ...] = ()
    projected: int = -1
    consumed: bool = False

    @property
    def rows(self) -> int:
        """``N``."""
        return self.observation.shape[0]

    def check_usable(self) -> None:
        """Refuse a consumed state.

        Raises:
            RuntimeError: If ``step`` or ``rollout`` consumed it.
        """
        if self.consumed:
            raise RuntimeError(
                "this state was consumed by step or rollout, which reuse its buffers; "
                "call take(state, rows) first to keep a copy"
            )

    def check_horizon(self, steps: int = 1) -> None:
        """Refuse a state from which ``steps`` more steps may not be imagined.

        Raises:
            RuntimeError: If they pass the horizon.
        """
        if self.time + steps > self.horizon:
            raise RuntimeError(
                f"the state stands at step {self.time} of its horizon of {self.horizon} steps, and {steps} "
                "more are to be imagined; call start with a longer horizon"
            )

    def consume(self) -> TransformerState:
        """The same rows as a state with writable buffers; this one becomes unusable."""
        self.check_usable()
        imagined = self.imagined or self.history.imagined(self.rows, self.capacity)
        owner = replace(self, imagined=imagined)
        self.consumed, self.projections = True, ()
        return owner

    def view(self, network: TransformerNetwork, *, offset: int, chunk: int) -> View:
        """The view of ``chunk`` tokens at ``offset`` of step ``time``, after making room for them."""
        time, capacity, imagined = self.time, self.capacity, self.imagined
        assert imagined is not None
        # imagined tokens inside the band: all of them, or the band's other whole steps and this one
        written = time * capacity.step + offset + chunk - capacity.offset
        inside = min(written, capacity.band - capacity.step + offset + chunk)
        if self.projected != time:
            rotation = self.rotation[time]
            self.projections = ()  # frees the old ones first
            self.projections = imagined.projections(network, rotation)
            self.projected = time
        return imagined.view(
            self.grouping,
            self.projections,
            first=max(0, (self.history_steps + time) * capacity.step - capacity.band),
            chunk=chunk,
            inside=inside,
        )

    def fed(self, chunk: int) -> None:
        """Note that ``chunk`` tokens joined the cache; a negative number removes them again."""
        assert self.imagined is not None
        self.imagined.written += chunk

    def advance(self) -> None:
        """Go on to the next step."""
        self.time += 1

    def keep(self, step: Step, reward: Tensor, to_go: Tensor | None) -> None:
        """Store a step as the last one; see :meth:`.rows.Rows.keep`."""
        assert step.observation is not None
        self.observation, self.reward, self.to_go = step.observation, reward, to_go

    def take(self, rows: Tensor) -> TransformerState:
        """Copies of the given rows.

        The history stays shared. So does, on a CPU with the compiled loop, what they imagined; PyTorch's
        products copy it.

        Raises:
            IndexError: If a row does not exist.
            RuntimeError: If this state was consumed.
            ValueError: If ``rows`` is not a non-empty int64 vector.
        """
        self.check_usable()
        if rows.ndim != 1 or rows.dtype != torch.int64 or len(rows) == 0:
            raise ValueError(
                f"rows has shape {tuple(rows.shape)} and dtype {rows.dtype}; expected [N] int64, N >= 1"
            )
        if int(rows.min()) < 0 or int(rows.max()) >= self.rows:
            raise IndexError(
                f"rows reach from {int(rows.min())} to {int(rows.max())}; expected 0 to {self.rows - 1}"
            )
        return replace(
            self,
            grouping=Grouping.of(self.grouping.history_of[rows], self.history.batch),
            imagined=None if self.imagined is None else self.imagined.take(rows),
            observation=self.observation[rows],
            reward=self.reward[rows],
            to_go=None if self.to_go is None else self.to_go[rows],
        )
