"""What a transformer world model knows about its rows between two imagined steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tdm_agents.world_models.transformer.cache import Grouping, Prefix
from tdm_agents.world_models.transformer.layout import StepLayout
from tdm_agents.world_models.transformer.network import Block, TransformerNetwork
from tdm_agents.world_models.transformer.suffix import Room, Suffix

if TYPE_CHECKING:
    from tdm_agents.protocols import Step
    from tdm_agents.world_models.transformer.fused.ring import PanelPrefix, Ring
    from tdm_agents.world_models.transformer.seen import Sight


@dataclass(slots=True)
class TransformerState:
    """``N`` rows that stand after the observation of decision step ``time``; 0 is the present.

    The reward, separator and action of that step are not in the keys and values yet: they are known together
    once an action is chosen, and take one forward.

    Attributes:
        prefix: Keys and values of the histories, shared by the rows, as PyTorch's products or as
            :mod:`.fused` reads them.
        grouping: Which row continues which history.
        suffix: Keys and values of what each row imagined; None until the first ``step``.
        room: Of a suffix.
        rotation: Of every step, :meth:`TransformerNetwork.step_rotations`.
        centres: ``[n + 1, bins]``: what each output bin stands for, observation scalars, then the reward.
        observation: ``[N, n]`` in the environment's units.
        reward: ``[N]`` int64, the token of the reward that came with it.
        history_steps: Steps in the prefix, the present one included.
        horizon: Steps that may be imagined.
        time: Steps imagined so far.
        rounds: Of guesses after which it is looked whether scalars have changed, with parallel decoding.
        projections: Of each block at step ``projected``, as the suffix wants them.
        projected: The step of what was fed last; -1 at first.
        consumed: Whether ``step`` or ``rollout`` took the buffers over.
    """

    prefix: Prefix | PanelPrefix
    grouping: Grouping
    suffix: Suffix | Ring | None
    room: Room
    rotation: Tensor
    centres: Tensor
    observation: Tensor
    reward: Tensor
    history_steps: int
    horizon: int
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
        """Refuse a state from which so many steps may not be imagined.

        Raises:
            RuntimeError: If they pass its horizon.
        """
        if self.time + steps > self.horizon:
            raise RuntimeError(
                f"the state stands at step {self.time} of its horizon of {self.horizon} steps, and {steps} "
                "more are to be imagined; call start with a longer horizon"
            )

    def consume(self) -> TransformerState:
        """The same rows as a state with buffers to write to; this one becomes unusable."""
        self.check_usable()
        suffix = self.suffix or own_tokens(self.prefix, self.rows, self.room)
        owner = replace(self, suffix=suffix)
        self.consumed, self.projections = True, ()
        return owner

    def look(
        self, network: TransformerNetwork, layout: StepLayout, context_steps: int, *, offset: int, chunk: int
    ) -> Sight:
        """What ``chunk`` tokens at ``offset`` of step ``time`` see; makes room for them."""
        time, suffix = self.time, self.suffix
        assert suffix is not None
        # tokens of the suffix inside the band: all of it, or context_steps - 1 whole steps and this one
        written = time * layout.tokens + offset + chunk - layout.observation_dim
        inside = min(written, (context_steps - 1) * layout.tokens + offset + chunk)
        if self.projected != time:
            rotation = self.rotation[time]
            self.projections = ()  # not both at once
            blocks = (block for block in network.blocks if isinstance(block, Block))
            self.projections = tuple(suffix.projection(block, rotation) for block in blocks)
            self.projected = time
        return suffix.look(
            self.grouping,
            self.projections,
            first=max(0, self.history_steps + time - context_steps) * layout.tokens,
            chunk=chunk,
            inside=inside,
        )

    def fed(self, chunk: int) -> None:
        """Note that so many tokens joined the suffix; fewer than 0 leave it again."""
        assert self.suffix is not None
        self.suffix.written += chunk

    def advance(self) -> None:
        """Go on to the next step."""
        self.time += 1

    def keep(self, step: Step, reward: Tensor) -> None:
        """Stand after a step, with the token ``[N]`` of its reward."""
        assert step.observation is not None
        self.observation, self.reward = step.observation, reward

    def take(self, rows: Tensor) -> TransformerState:
        """Copies of the given rows; suffixes only, the prefix stays shared.

        Raises:
            IndexError: If a row does not exist.
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
            grouping=Grouping.of(self.grouping.prefix_of[rows], self.prefix.batch),
            suffix=None if self.suffix is None else self.suffix.take(rows),
            observation=self.observation[rows],
            reward=self.reward[rows],
        )


def own_tokens(prefix: Prefix | PanelPrefix, rows: int, room: Room) -> Suffix | Ring:
    """Room for what rows imagine, of the prefix's kind."""
    if isinstance(prefix, Prefix):
        return Suffix(prefix, rows, room)
    from tdm_agents.world_models.transformer.fused.ring import Ring  # half a second to import

    return Ring(prefix, rows, room)
