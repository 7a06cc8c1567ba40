"""Imagined rows in buffers of fixed shape and place, so that a step is the same work every time.

Where a :class:`.state.TransformerState` counts in Python and packs its suffixes anew, here the counter is a
tensor and nothing moves: what is done in a step does not depend on the step, and can be captured and replayed
(:mod:`.replay`). The price is that the whole buffers are read, with masks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tdm_agents.world_models.transformer.cache import Prefix
from tdm_agents.world_models.transformer.layout import StepLayout
from tdm_agents.world_models.transformer.network import Block, TransformerNetwork
from tdm_agents.world_models.transformer.seen import Seen
from tdm_agents.world_models.transformer.state import TransformerState
from tdm_agents.world_models.transformer.suffix import Suffix

if TYPE_CHECKING:
    from tdm_agents.protocols import Step


class FixedRows:
    """``N`` rows that stand after the observation of step ``time``, as tensors that are written over.

    A token's place among the rows' own is its number modulo the buffer's length, a whole number of steps: a
    step's tokens take the places of those that have just left the band.

    Args:
        network: Whose keys and values.
        state: Rows whose sizes are taken, prefix by prefix in equal counts.
        layout: Of a decision step.
        context_steps: Attention band.
        compiled: Whether blocks go through ``torch.compile``.

    Attributes:
        time: Steps imagined so far, ``[1]`` int64.
        action: ``[N, m]`` that is imagined next.
        uniform: ``[N, n + 2]``, the draws of that step.
        observation: ``[N, n]``.
        reward: ``[N]`` int64, the reward's token.
        value: ``[N]``, the reward in the environment's units.
        alive: ``[N]`` bool.
        centres: As the state's.
        rounds: As the state's.
    """

    def __init__(
        self,
        network: TransformerNetwork,
        state: TransformerState,
        layout: StepLayout,
        context_steps: int,
        *,
        compiled: bool,
    ) -> None:
        self._network, self._layout, self._band, self._compiled = network, layout, context_steps, compiled
        assert isinstance(state.prefix, Prefix)
        _, heads, batch, _, head_dim = state.prefix.layers[0].shape
        like, rows = state.prefix.layers[0], state.rows
        self._grouping = state.grouping
        prefix = prefix_room(state.history_steps, context_steps, layout)
        own = min(context_steps, state.horizon + 1) * layout.tokens
        layers = range(len(state.prefix.layers))
        self._shared = [like.new_zeros((2, heads, batch, prefix, head_dim)) for _ in layers]
        self._own = [like.new_zeros((2, heads, rows, own, head_dim)) for _ in layers]
        self._real = torch.zeros((batch, prefix), dtype=torch.bool, device=like.device)
        # steps of the prefix's tokens; the present is 0
        self._steps = torch.arange(-prefix, 0, device=like.device) + layout.observation_dim
        self._steps = self._steps.div(layout.tokens, rounding_mode="floor")  # [P]
        self._places = torch.arange(own, device=like.device)
        self._rotation = state.rotation.clone()
        self._projections = [block.step_projection(self._rotation[0]) for block in self._blocks()]
        self.time = torch.zeros(1, dtype=torch.int64, device=like.device)
        self.centres, self.rounds = state.centres.clone(), state.rounds
        self.observation, self.reward = state.observation.clone(), state.reward.clone()
        self.uniform = self.observation.new_zeros((rows, layout.observation_dim + 2))
        self.value = self.observation.new_zeros(rows)
        self.alive = torch.ones(rows, dtype=torch.bool, device=like.device)
        self.action: Tensor  # of the first action's type

    def load(self, state: TransformerState) -> None:
        """Begin anew from rows of the same sizes, at step 0."""
        assert isinstance(state.prefix, Prefix)
        tokens = state.prefix.tokens
        for shared, layer in zip(self._shared, state.prefix.layers, strict=True):
            shared[..., :-tokens, :].zero_()  # what is hidden weighs nothing, unless it is NaN
            shared[..., -tokens:, :].copy_(layer)
        visible = state.prefix.visible
        self._real.fill_(False)
        self._real[:, -tokens:] = True if visible is None else visible
        for own in self._own:
            own.zero_()
        self.time.zero_()
        self._project()
        self.centres.copy_(state.centres)
        self.observation.copy_(state.observation)
        self.reward.copy_(state.reward)

    def look(
        self, network: TransformerNetwork, layout: StepLayout, context_steps: int, *, offset: int, chunk: int
    ) -> Seen:
        """What ``chunk`` tokens at ``offset`` of step ``time`` see; no shape depends on ``time``."""
        last = self.time * layout.tokens + (offset + chunk - 1)  # [1] number of the last token
        length = len(self._places)
        token = last - (last - self._places) % length  # [S] the last one to be written to each place
        first = ((self.time - (context_steps - 1)) * layout.tokens).clamp_min(layout.observation_dim)
        query = last + torch.arange(1 - chunk, 1, device=last.device)  # [c]
        unseen = (token > query[:, None]) | (token < first)  # [c, S]
        hidden = self._own[0].new_zeros(unseen.shape).masked_fill(unseen, float("-inf"))
        return Seen(
            projections=self._projections,
            own=self._own,
            at=query % length,
            shared=self._shared,
            grouping=self._grouping,
            visible=self._real & (self._steps > self.time - context_steps),
            hidden=hidden,
            compiled=self._compiled,
        )

    def fed(self, chunk: int) -> None:
        """Nothing to note: places follow from ``time``."""

    def advance(self) -> None:
        """Go on to the next step."""
        self.time += 1
        self._project()

    def keep(self, step: Step, reward: Tensor) -> None:
        """Put what a step led to, and the reward's token, where the next one starts from."""
        assert step.observation is not None
        self.observation.copy_(step.observation)
        self.reward.copy_(reward)
        self.value.copy_(step.reward)
        self.alive.copy_(step.alive)

    def continued(self, state: TransformerState, time: int) -> TransformerState:
        """These rows after ``time`` steps as a state of their own.

        Args:
            state: That was loaded.
            time: At least 1.
        """
        assert isinstance(state.prefix, Prefix)
        step, dim = self._layout.tokens, self._layout.observation_dim
        inside = min(time * step, (self._band - 1) * step + dim)
        places = torch.arange(-inside, 0, device=self.time.device) + (time * step + dim)
        places %= len(self._places)
        layers = (own.index_select(3, places) for own in self._own)
        return replace(
            state,
            suffix=Suffix.holding(
                state.prefix, state.rows, state.room, written=time * step, keep=inside, layers=layers
            ),
            observation=self.observation.clone(),
            reward=self.reward.clone(),
            time=time,
            rounds=self.rounds,
            projected=-1,
            consumed=False,
        )

    def _project(self) -> None:
        """Weights of the present step, in place."""
        rotation = self._rotation.index_select(0, self.time)[0]
        for into, block in zip(self._projections, self._blocks(), strict=True):
            into.copy_(block.step_projection(rotation))

    def _blocks(self) -> list[Block]:
        return [block for block in self._network.blocks if isinstance(block, Block)]


def prefix_room(history_steps: int, context_steps: int, layout: StepLayout) -> int:
    """Tokens that a prefix gets room for: its steps, rounded up to a power of two or to the whole band.

    A history that grows is captured anew a few times, not at every decision.
    """
    steps = min(context_steps, 1 << (history_steps - 1).bit_length())
    return (steps - 1) * layout.tokens + layout.observation_dim
