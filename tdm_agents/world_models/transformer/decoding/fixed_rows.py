"""Imagined rows in buffers of fixed shape and address, so that every step is the same work.

A :class:`.state.TransformerState` counts in Python and repacks its caches. Here the counter is a tensor and
nothing moves: the work of a step does not depend on the step, and can be captured and replayed
(:mod:`.captured`). The price is that whole buffers are read, with masks.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tdm_agents.protocols import Step
from tdm_agents.world_models.transformer.decoding.packed_caches import PackedHistory, PackedImagined
from tdm_agents.world_models.transformer.decoding.products import ProductsView
from tdm_agents.world_models.transformer.decoding.state import TransformerState
from tdm_agents.world_models.transformer.network import Block, TransformerNetwork


class FixedRows:
    """``N`` rows after the observation of step ``time``, in tensors that are overwritten.

    A token's place in its row's buffer is its number modulo the buffer's length, a whole number of steps: a
    step's tokens replace those that have just left the band.

    Args:
        network: The network whose keys and values are held.
        state: Rows of the same sizes, in equal numbers per history, in order.
        compiled: Whether blocks go through ``torch.compile``.

    Attributes:
        time: Number of steps imagined so far, ``[1]`` int64.
        action: ``[N, m]``, the action to imagine next.
        draws: ``[N, n + 2]``, the random numbers of that step.
        observation: ``[N, n]``, the last observation.
        reward: ``[N]`` int64, the reward's token.
        value: ``[N]``, the reward in the environment's units.
        alive: ``[N]`` bool.
        survival: ``[N]``, the probability that it is True; meaningless where the step has none.
        to_go: ``[N]``, the predicted return after the last observation; None where none is predicted.
        centres: As in the state.
        rounds: As in the state.
    """

    def __init__(self, network: TransformerNetwork, state: TransformerState, *, compiled: bool) -> None:
        assert isinstance(state.history, PackedHistory)
        self._network, self._capacity, self._compiled = network, state.capacity, compiled
        step, band_steps = state.capacity.step, state.capacity.band // state.capacity.step
        _, heads, batch, _, head_dim = state.history.layers[0].shape
        like, rows = state.history.layers[0], state.rows
        self._grouping = state.grouping
        length = (history_room(state.history_steps, band_steps) - 1) * step + state.capacity.offset
        own = min(band_steps, state.horizon + 1) * step
        layers = range(len(state.history.layers))
        self._shared = [like.new_zeros((2, heads, batch, length, head_dim)) for _ in layers]
        self._own = [like.new_zeros((2, heads, rows, own, head_dim)) for _ in layers]
        self._real = torch.zeros((batch, length), dtype=torch.bool, device=like.device)
        # steps of the histories' tokens, counted from the present, 0
        self._steps = torch.arange(-length, 0, device=like.device) + state.capacity.offset
        self._steps = self._steps.div(step, rounding_mode="floor")  # [P]
        self._places = torch.arange(own, device=like.device)
        self._rotation = state.rotation.clone()
        self._projections = [block.step_projection(self._rotation[0]) for block in self._blocks()]
        self.time = torch.zeros(1, dtype=torch.int64, device=like.device)
        self.centres, self.rounds = state.centres.clone(), state.rounds
        self.observation, self.reward = state.observation.clone(), state.reward.clone()
        self.draws = self.observation.new_zeros((rows, state.capacity.offset + 2))
        self.value = self.observation.new_zeros(rows)
        self.alive = torch.ones(rows, dtype=torch.bool, device=like.device)
        self.survival = self.observation.new_ones(rows)
        self.to_go = None if state.to_go is None else state.to_go.clone()
        self.action: Tensor  # has the type of the first action

    def load(self, state: TransformerState) -> None:
        """Restart at step 0 from rows of the same sizes."""
        assert isinstance(state.history, PackedHistory)
        tokens = state.history.tokens
        for shared, layer in zip(self._shared, state.history.layers, strict=True):
            shared[..., :-tokens, :].zero_()  # hidden tokens weigh nothing, unless they are NaN
            shared[..., -tokens:, :].copy_(layer)
        visible = state.history.visible
        self._real.fill_(False)
        self._real[:, -tokens:] = True if visible is None else visible
        for own in self._own:
            own.zero_()
        self.time.zero_()
        self._project()
        self.centres.copy_(state.centres)
        self.observation.copy_(state.observation)
        self.reward.copy_(state.reward)

    def view(self, network: TransformerNetwork, *, offset: int, chunk: int) -> ProductsView:
        """The view of ``chunk`` tokens at ``offset`` of step ``time``; no shape depends on ``time``."""
        capacity, length = self._capacity, len(self._places)
        last = self.time * capacity.step + (offset + chunk - 1)  # [1] number of the last token
        token = last - (last - self._places) % length  # [S] the token last written to each place
        first = ((self.time + 1) * capacity.step - capacity.band).clamp_min(capacity.offset)
        query = last + torch.arange(1 - chunk, 1, device=last.device)  # [c]
        unseen = (token > query[:, None]) | (token < first)  # [c, S]
        mask = self._own[0].new_zeros(unseen.shape).masked_fill(unseen, float("-inf"))
        return ProductsView(
            projections=self._projections,
            own=self._own,
            at=query % length,
            shared=self._shared,
            grouping=self._grouping,
            visible=self._real & (self._steps > self.time - capacity.band // capacity.step),
            mask=mask,
            compiled=self._compiled,
        )

    def fed(self, chunk: int) -> None:
        """Do nothing: places follow from ``time``."""

    def advance(self) -> None:
        """Go on to the next step."""
        self.time += 1
        self._project()

    def keep(self, step: Step, reward: Tensor, to_go: Tensor | None) -> None:
        """Store a step, from which the next one starts; see :meth:`.rows.Rows.keep`."""
        assert step.observation is not None
        self.observation.copy_(step.observation)
        self.reward.copy_(reward)
        self.value.copy_(step.reward)
        self.alive.copy_(step.alive)
        if step.survival is not None:
            self.survival.copy_(step.survival)
        if self.to_go is not None:
            assert to_go is not None
            self.to_go.copy_(to_go)

    def continued(self, state: TransformerState, time: int) -> TransformerState:
        """The rows after ``time`` steps, as an independent state.

        Args:
            state: The state that was loaded.
            time: Number of steps, at least 1.
        """
        assert isinstance(state.history, PackedHistory)
        capacity = self._capacity
        inside = min(time * capacity.step, capacity.band - capacity.step + capacity.offset)
        places = torch.arange(-inside, 0, device=self.time.device) + (time * capacity.step + capacity.offset)
        places %= len(self._places)
        return replace(
            state,
            imagined=PackedImagined.holding(
                state.history,
                state.rows,
                capacity=state.capacity,
                written=time * capacity.step,
                keep=inside,
                layers=(own.index_select(3, places) for own in self._own),
            ),
            observation=self.observation.clone(),
            reward=self.reward.clone(),
            to_go=None if self.to_go is None else self.to_go.clone(),
            time=time,
            rounds=self.rounds,
            projected=-1,
            consumed=False,
        )

    def _project(self) -> None:
        """Compute the weights of the present step, in place."""
        rotation = self._rotation.index_select(0, self.time)[0]
        for into, block in zip(self._projections, self._blocks(), strict=True):
            into.copy_(block.step_projection(rotation))

    def _blocks(self) -> list[Block]:
        return [block for block in self._network.blocks if isinstance(block, Block)]


def history_room(history_steps: int, context_steps: int) -> int:
    """Steps of history to make room for: a power of two of at least its length, or the whole band.

    So a growing history is captured again a few times, not at every decision.
    """
    return min(context_steps, 1 << (history_steps - 1).bit_length())
