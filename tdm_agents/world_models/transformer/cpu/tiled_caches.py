"""Keys and values for the loop through all blocks (:mod:`.layers_loop`): those of :mod:`.loop_caches`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tdm_agents.world_models.transformer.cpu.attention_loop import attention
from tdm_agents.world_models.transformer.cpu.layer_arguments import LayerArgument, pass_table
from tdm_agents.world_models.transformer.cpu.layers_loop import layers
from tdm_agents.world_models.transformer.cpu.loop_caches import PanelHistory, RingImagined
from tdm_agents.world_models.transformer.cpu.loop_view import LoopView
from tdm_agents.world_models.transformer.cpu.openmp import in_threads, thread_functions
from tdm_agents.world_models.transformer.cpu.packed_network import PackedNetwork
from tdm_agents.world_models.transformer.cpu.registers import ROWS
from tdm_agents.world_models.transformer.cpu.tiles import SHAPES
from tdm_agents.world_models.transformer.decoding.cache import Capacity
from tdm_agents.world_models.transformer.decoding.grouping import Grouping
from tdm_agents.world_models.transformer.decoding.token_view import View
from tdm_agents.world_models.transformer.network import TransformerNetwork


@dataclass(frozen=True, slots=True)
class TiledHistory(PanelHistory):
    """Keys and values of ``B`` histories, whose rows go on with weights in bfloat16.

    Attributes:
        weights: The packed weights.
    """

    weights: PackedNetwork

    @staticmethod
    def with_weights(history: PanelHistory, weights: PackedNetwork) -> TiledHistory:
        """The same histories for rows that go on with these weights."""
        return TiledHistory(history.keys, history.values, history.first, weights)

    def imagined(self, rows: int, capacity: Capacity) -> TiledImagined:
        """An empty cache of rows that continue these histories."""
        return TiledImagined(self, rows, capacity)


class TiledImagined(RingImagined):
    """Keys and values of what each row imagined, with the table of their addresses.

    Args:
        history: The histories that the rows continue.
        rows: ``N``, the number of rows.
        capacity: Number of tokens that a layer holds.
    """

    def __init__(self, history: TiledHistory, rows: int, capacity: Capacity) -> None:
        super().__init__(history, rows, capacity)
        self._weights = history.weights
        columns = zip(history.keys, history.values, history.weights.layers, strict=True)
        self._fixed = np.array(
            [[0, 0, *(x.data_ptr() for x in (keys, values, *weights))] for keys, values, weights in columns],
            dtype=np.int64,
        )

    @staticmethod
    def projections(network: TransformerNetwork, rotation: Tensor) -> tuple[Tensor, ...]:
        """The cosines and sines of a step, ``[2, head_dim / 2]``."""
        key, half = rotation[network.config.heads], network.config.head_dim // 2  # [head_dim, head_dim]
        return (torch.stack([key[:half, :half].diagonal(), key[:half, half:].diagonal()]).contiguous(),)

    def view(
        self, grouping: Grouping, projections: tuple[Tensor, ...], *, first: int, chunk: int, inside: int
    ) -> View:
        """The view of the next tokens; see :meth:`.cache.ImaginedCache.view`."""
        view = self._loop_view(grouping, projections, first=first, chunk=chunk, inside=inside)
        layers = len(view.own)
        past = view.past_table(*range(layers))
        addresses = self._fixed.copy()
        addresses[:, LayerArgument.OWN] = [layer.data_ptr() for layer in view.own]
        addresses[:, LayerArgument.PAST] = past.ctypes.data + past.nbytes // layers * np.arange(layers)
        return TiledView(view, self._weights, addresses, past)


@dataclass(frozen=True, slots=True)
class TiledView:
    """The view of new tokens for the loop through all blocks.

    Attributes:
        view: What they attend to; its projections are the cosines and sines of their step.
        weights: The packed weights.
        addresses: A row of :class:`.layer_arguments.LayerArgument` per block.
        past: The :meth:`.loop_view.LoopView.past_table` of all blocks, which addresses point to.
    """

    view: LoopView
    weights: PackedNetwork
    addresses: np.ndarray[Any, Any]
    past: np.ndarray[Any, Any]

    def hidden(self, network: TransformerNetwork, x: Tensor, outputs: int) -> Tensor:
        """New tokens through all blocks; see :meth:`.token_view.View.hidden`. ``x`` is changed."""
        view, weights = self.view, self.weights
        rows, chunk, width = x.shape
        config, own, values = network.config, view.own[0], view.values[0]
        room = x.new_empty((rows * chunk, 4 * width))
        hidden = x.new_empty((rows, outputs, width))
        number, count = thread_functions()
        arguments = pass_table(
            new=room.data_ptr(),
            own=0,
            past=0,
            keys=0,
            values=0,
            history_of=view.history_of.data_ptr(),
            first=view.first.data_ptr(),
            out=room.data_ptr() + 4 * rows * chunk * 3 * width,
            rows=rows,
            chunk=chunk,
            outputs=outputs,
            capacity=own.shape[2],
            batch=len(values),
            length=values.shape[2],
            place=view.place,
            start=view.start,
            seen=view.seen,
            parts=len(view.past),
            whole=view.whole,
            thread_number=number,
            thread_count=count,
            x=x.data_ptr(),
            hidden=hidden.data_ptr(),
            layers=self.addresses.ctypes.data,
            layer_count=len(self.addresses),
            norm=weights.norm.data_ptr(),
            rotation=view.projections[0].data_ptr(),
            feedforward=weights.feedforward,
            shapes=SHAPES.ctypes.data,
            attention=attention(config.heads, config.head_dim).address,
        )
        function = layers(config.heads, config.head_dim).address
        in_threads(function, arguments.ctypes.data, parts=-(-rows // ROWS))
        return hidden
