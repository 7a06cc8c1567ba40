"""What the compiled attention (:mod:`.attention_loop`) is told of new tokens and what they attend to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tdm_agents.world_models.transformer.cpu.arguments import PastArgument, table
from tdm_agents.world_models.transformer.cpu.attention_loop import attention
from tdm_agents.world_models.transformer.cpu.openmp import in_threads, thread_functions
from tdm_agents.world_models.transformer.cpu.registers import ROWS
from tdm_agents.world_models.transformer.decoding.token_view import through_blocks
from tdm_agents.world_models.transformer.network import Block, TransformerNetwork


@dataclass(frozen=True, slots=True)
class Past:
    """Some tokens that rows imagined before they were taken; read only, and shared by all who continue them.

    Attributes:
        layers: Keys and values per layer, ``[M, 2, D, width]``; a ring that began with the first token.
        rows: ``[N]`` int64, the row that each row continues.
        first: Number of the first token.
        end: Number of the token after the last one.
    """

    layers: list[Tensor]
    rows: Tensor
    first: int
    end: int

    def take(self, rows: Tensor) -> Past:
        """What the given rows continue."""
        return Past(self.layers, self.rows[rows], self.first, self.end)

    def arguments(self, layer: int, since: int) -> list[int]:
        """The loop's :class:`.arguments.PastArgument` of the tokens with numbers from ``since`` on."""
        keys_and_values, visible = self.layers[layer], max(since, self.first)
        size = keys_and_values.shape[2]
        start = (visible - self.first) % size
        return [keys_and_values.data_ptr(), self.rows.data_ptr(), size, start, self.end - visible]


@dataclass(frozen=True, slots=True)
class LoopView:
    """The view of new tokens for the loop; its attributes are the loop's :mod:`.arguments`.

    Of the past, tokens with numbers from ``since`` are visible. Keys and values are the history's
    (:class:`.loop_caches.PanelHistory`).
    """

    projections: tuple[Tensor, ...]
    own: list[Tensor]
    place: int
    start: int
    seen: int
    past: tuple[Past, ...]
    since: int
    whole: bool
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    history_of: Tensor
    first: Tensor

    def hidden(self, network: TransformerNetwork, x: Tensor, outputs: int) -> Tensor:
        """New tokens through all blocks; see :meth:`.token_view.View.hidden`."""
        return through_blocks(self, network, x, outputs)

    def past_table(self, *layers: int) -> np.ndarray:
        """A row of :class:`.arguments.PastArgument` per layer and part of the past."""
        rows = [part.arguments(layer, self.since) for layer in layers for part in self.past]
        return np.array(rows, dtype=np.int64).reshape(-1, len(PastArgument))

    def through(self, index: int, block: Block, x: Tensor, outputs: int) -> Tensor:
        """New tokens through one block; see :meth:`.view.View.through`.

        Raises:
            TypeError: If projections are not float32, as under ``torch.autocast``.
        """
        rows, chunk, width = x.shape
        new = block.attention_norm(x).flatten(0, 1) @ self.projections[index]  # [N c, 3 d]
        if new.dtype != torch.float32:
            raise TypeError(f"queries are {new.dtype}; expected torch.float32: plan outside of autocast")
        attended = new.new_empty((rows * outputs, width))
        own, keys, values = self.own[index], self.keys[index], self.values[index]
        past = self.past_table(index)
        number, count = thread_functions()
        arguments = table(
            new=new.data_ptr(),
            own=own.data_ptr(),
            past=past.ctypes.data,
            keys=keys.data_ptr(),
            values=values.data_ptr(),
            history_of=self.history_of.data_ptr(),
            first=self.first.data_ptr(),
            out=attended.data_ptr(),
            rows=rows,
            chunk=chunk,
            outputs=outputs,
            capacity=own.shape[2],
            batch=len(keys),
            length=values.shape[2],
            place=self.place,
            start=self.start,
            seen=self.seen,
            parts=len(past),
            whole=self.whole,
            thread_number=number,
            thread_count=count,
        )
        _, heads, _, head_dim = values.shape
        function = attention(heads, head_dim).address
        in_threads(function, arguments.ctypes.data, parts=-(-rows // ROWS))
        return block.finish(x[:, -outputs:].flatten(0, 1), attended).view(rows, outputs, width)
