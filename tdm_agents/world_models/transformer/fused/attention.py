"""Attention over a shared prefix and each row's own tokens, for one new forward of all rows, as one loop.

Scores never reach memory: for a few lines at a time (a line is a query of a row) they are computed, turned
into weights and used while they are in the first-level cache. The prefix is read once for all of them, as
products of matrices; the rows' own keys and values, which are most of what is read, are fetched while the
prefix is computed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from tdm_agents.world_models.transformer.fused.vectors import (
    PANEL,
    ROWS,
    exp2_over_max,
    lanes_of,
    multiply,
    score,
    weigh,
)

_PIECE = 64
"""Tokens of the prefix whose values are added up between two looks at what to fetch."""


@functools.cache
def attention(heads: int, head_dim: int) -> Callable[..., None]:
    """The loop for heads of one size, compiled when it is first called, and kept on disk.

    Its arguments are NumPy arrays and integers:

    - ``new [N c, 3 width]`` float32: queries (their products with keys are the logarithms of weights, to base
      2), keys and values of the new tokens; ``c``; and ``q``, of how many of the last tokens the output is
      wanted.
    - ``own [2, N, C, width]``: the rows' own keys and values, a ring; ``place`` where the new ones go;
      ``start`` of the first token that is seen; ``seen``, how many are, the new ones included.
    - ``keys [B, heads, panels, head_dim, PANEL]`` and ``values [B, heads, P, head_dim]`` of the prefixes;
      ``prefix_of [N]`` int64; ``first [B]`` int64, the first token of each that is seen, at most ``P``.
    - ``out [N q, width]``, which is written; ``begin`` and ``end``, the rows to do.
    """
    width = heads * head_dim
    registers = head_dim // lanes_of(head_dim)
    columns = lanes_of(head_dim) * max(x for x in range(1, registers + 1) if registers % x == 0 and x <= 2)

    @njit(fastmath=True, nogil=True, error_model="numpy", cache=True)  # type: ignore[untyped-decorator]
    def attend(
        new: Any,
        chunk: int,
        outputs: int,
        own: Any,
        place: int,
        start: int,
        seen: int,
        keys: Any,
        values: Any,
        prefix_of: Any,
        first: Any,
        out: Any,
        begin: int,
        end: int,
    ) -> None:
        rows, capacity = own.shape[1], own.shape[2]
        panels, length = keys.shape[2], values.shape[2]
        layer = rows * capacity * width  # from keys to values
        # what a row's own tokens take, in whole steps of what a product fetches
        fetched = 32 * _PIECE
        row_size = (seen * width + fetched - 1) // fetched * fetched
        scores = np.empty((ROWS, panels * PANEL + seen), np.float32)
        across = scores.shape[1]
        weights = np.empty((ROWS, heads, seen), np.float32)
        total = np.empty((ROWS, heads), np.float32)
        line, last, done = begin * outputs, end * outputs, begin
        while line < last:
            count = ROWS
            prefix = prefix_of[line // outputs]
            together = chunk == outputs or outputs == 1  # lines are evenly apart
            if line + count > last or prefix_of[(line + count - 1) // outputs] != prefix or not together:
                count = 1
            row0, row1 = line // outputs, (line + count - 1) // outputs
            while done <= row1:
                for i in range(chunk):
                    token = new[done * chunk + i]
                    at = (place + i) % capacity
                    own[0, done, at, :] = token[width : 2 * width]
                    own[1, done, at, :] = token[2 * width :]
                done += 1
            for i in range(count):
                row, query = (line + i) // outputs, chunk - outputs + (line + i) % outputs
                visible = seen - (chunk - 1 - query)
                straight = min(visible, capacity - start)
                at = (row * chunk + query) * 3 * width
                ahead = capacity * width if i < count - 1 else layer - (row - row0) * capacity * width
                of_row = row * capacity * width
                score(
                    new, at, own, of_row + start * width, straight,
                    weights, i * heads * seen, seen, ahead, heads, head_dim,
                )  # fmt: skip
                if visible > straight:
                    score(
                        new, at, own, of_row, visible - straight,
                        weights, i * heads * seen + straight, seen, ahead, heads, head_dim,
                    )  # fmt: skip
            since = first[prefix]
            apart = 3 * width if chunk == outputs else chunk * 3 * width
            query0 = (row0 * chunk + chunk - outputs + line % outputs) * 3 * width
            for h in range(heads):
                of_head = (prefix * heads + h) * panels
                for panel in range(since // PANEL, panels if since < length else 0):
                    # meanwhile the values of these rows
                    at = (h * panels + panel) * 32 * head_dim
                    row = row0 + at // row_size
                    soon, step = 0, 0
                    if row <= row1:
                        soon, step = layer + (row * capacity + start) * width + at % row_size, 32
                    key = (of_head + panel) * head_dim * PANEL
                    if count == ROWS:
                        multiply(
                            new, query0 + h * head_dim, apart, keys, key, PANEL, scores, panel * PANEL, across,
                            head_dim, own, soon, step, ROWS, PANEL, False,
                        )  # fmt: skip
                    else:
                        multiply(
                            new, query0 + h * head_dim, apart, keys, key, PANEL, scores, panel * PANEL, across,
                            head_dim, own, soon, step, 1, PANEL, False,
                        )  # fmt: skip
                for i in range(count):
                    query = chunk - outputs + (line + i) % outputs
                    visible = seen - (chunk - 1 - query)
                    scores[i, length : length + visible] = weights[i, h, :visible]
                    total[i, h] = np.float32(1) / exp2_over_max(scores[i, since : length + visible])
                    weights[i, h, :visible] = scores[i, length : length + visible]
                    out[line + i, h * head_dim : (h + 1) * head_dim] = np.float32(0)
                for piece in range(since, length, _PIECE):
                    # meanwhile the keys of the next rows
                    at = (h * length + piece) * 32
                    row = row1 + 1 + at // row_size
                    soon, step = 0, 0
                    if row < min(end, 2 * row1 - row0 + 2):
                        soon, step = (row * capacity + start) * width + at % row_size, 32
                    depth = min(_PIECE, length - piece)
                    for part in range(0, head_dim, columns):
                        value = ((prefix * heads + h) * length + piece) * head_dim + part
                        at = line * width + h * head_dim + part
                        if count == ROWS:
                            multiply(
                                scores, piece, across, values, value, head_dim, out, at, width,
                                depth, own, soon, step, ROWS, columns, True,
                            )  # fmt: skip
                        else:
                            multiply(
                                scores, piece, across, values, value, head_dim, out, at, width,
                                depth, own, soon, step, 1, columns, True,
                            )  # fmt: skip
            for i in range(count):
                row, query = (line + i) // outputs, chunk - outputs + (line + i) % outputs
                visible = seen - (chunk - 1 - query)
                straight = min(visible, capacity - start)
                ahead = capacity * width if i < count - 1 else capacity * width - layer
                of_row = layer + row * capacity * width
                weigh(
                    weights, i * heads * seen, seen, own, of_row + start * width, straight,
                    out, (line + i) * width, ahead, heads, head_dim,
                )  # fmt: skip
                if visible > straight:
                    weigh(
                        weights, i * heads * seen + straight, seen, own, of_row, visible - straight,
                        out, (line + i) * width, ahead, heads, head_dim,
                    )  # fmt: skip
                for h in range(heads):
                    share = out[line + i, h * head_dim : (h + 1) * head_dim]
                    for x in range(head_dim):
                        share[x] *= total[i, h]
            line += count

    return attend
