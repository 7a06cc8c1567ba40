"""Attention over a shared prefix and each row's own tokens, for one new forward of all rows, as one loop.

Scores never reach memory: for a few lines at a time (a line is a query of a row) they are computed, turned
into weights and used while they are in the first-level cache. The prefix is read once for all of them, as
products of matrices; the rows' own keys and values, which are most of what is read, are fetched while the
prefix is computed.
"""

from __future__ import annotations

import functools
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numba import carray, cfunc, njit, types

from tdm_agents.world_models.transformer.fused import PANEL, vectors
from tdm_agents.world_models.transformer.fused.vectors import (
    COLUMNS,
    ROWS,
    call,
    exp2_over_max,
    lanes_of,
    multiply,
    pointer,
    score,
    weigh,
)

ARGUMENTS = (
    "new",
    "own",
    "keys",
    "values",
    "prefix_of",
    "first",
    "out",
    "rows",
    "chunk",
    "outputs",
    "capacity",
    "place",
    "start",
    "seen",
    "batch",
    "length",
    "thread_number",
    "thread_count",
)
"""Of what :func:`attention` returns, in order: addresses of contiguous arrays, then integers.

- ``new [N c, 3 width]`` float32: queries (their products with keys are the logarithms of weights, to base 2),
  keys and values of the new tokens;
- ``own [N, 2, C, width]`` float32: the rows' own keys and values, a ring, to which the new ones are added;
- ``keys [B, heads, panels, head_dim, PANEL]`` and ``values [B, heads, P, head_dim]``, float32: the prefixes;
- ``prefix_of [N]`` int64: which a row continues; ``first [B]`` int64: the first token of each that is seen;
- ``out [N q, width]`` float32: what is written;
- ``rows`` is ``N``, ``chunk`` is ``c``, ``outputs`` is ``q``: of how many of the last tokens the output is
  wanted; ``capacity`` is ``C``, ``batch`` is ``B``, ``length`` is ``P``;
- ``place`` in the ring of the first new token; ``start``, the place of the first token that is seen;
  ``seen``, how many are, the new ones included;
- the addresses of functions that say which thread of how many this is; 0 if there is only one.
"""

_PIECE = 64
"""Tokens of the prefix whose values are added up between two looks at what to fetch."""


@functools.cache
def attention(heads: int, head_dim: int) -> Any:
    """The loop for heads of one size, as a C function of a table of :data:`ARGUMENTS`, int64.

    It does its thread's share of the rows. Compiled here, which takes seconds, and kept on disk.
    """
    width = heads * head_dim
    registers = head_dim // lanes_of(head_dim)
    columns = lanes_of(head_dim) * max(x for x in range(1, registers + 1) if registers % x == 0 and x <= 2)

    # numba knows what it has kept by a function's source and cells, not by what is imported
    version = zlib.crc32(Path(vectors.__file__).read_bytes())

    @njit(fastmath=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
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
        capacity = own.shape[2]
        panels, length = keys.shape[2], values.shape[2]
        half, whole = capacity * width, 2 * capacity * width  # from a row's keys to its values, to a row
        # what a row's own tokens take, in whole steps of what a product fetches
        fetched = 32 * _PIECE
        row_size = (seen * width + fetched - 1) // fetched * fetched
        scores = np.empty((ROWS, panels * PANEL + seen), np.float32)
        across = scores.shape[1]
        weights = np.empty((ROWS, heads, seen), np.float32)
        total = np.empty((ROWS, heads), np.float32)
        line, last, done = begin * outputs, end * outputs, begin
        while line < last:
            prefix = prefix_of[line // outputs]
            count = ROWS
            if line + ROWS > last or (1 < outputs < chunk):  # lines evenly apart, of one prefix, or alone
                count = 1
            for i in range(1, count):
                if prefix_of[(line + i) // outputs] != prefix:
                    count = 1
                    break
            row0, row1 = line // outputs, (line + count - 1) // outputs
            while done <= row1:
                for i in range(chunk):
                    token = new[done * chunk + i]
                    at = (place + i) % capacity
                    own[done, 0, at, :] = token[width : 2 * width]
                    own[done, 1, at, :] = token[2 * width :]
                done += 1
            for i in range(count):
                row, query = (line + i) // outputs, chunk - outputs + (line + i) % outputs
                visible = seen - (chunk - 1 - query)
                straight = min(visible, capacity - start)
                at = (row * chunk + query) * 3 * width
                ahead = whole if i < count - 1 else half - (row - row0) * whole
                of_row = row * whole
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
                        soon, step = row * whole + half + start * width + at % row_size, 32
                    for part in range(0, PANEL, COLUMNS):
                        key = (of_head + panel) * head_dim * PANEL + part
                        into = panel * PANEL + part
                        if count == ROWS:
                            multiply(
                                new, query0 + h * head_dim, apart, keys, key, PANEL, scores, into, across,
                                head_dim, own, soon, step, ROWS, COLUMNS, False,
                            )  # fmt: skip
                        else:
                            multiply(
                                new, query0 + h * head_dim, apart, keys, key, PANEL, scores, into, across,
                                head_dim, own, soon, step, 1, COLUMNS, False,
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
                        soon, step = row * whole + start * width + at % row_size, 32
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
                ahead = whole if i < count - 1 else half
                of_row = row * whole + half
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

    @cfunc(types.void(types.voidptr), cache=True)  # type: ignore[untyped-decorator]
    def share(arguments: Any) -> None:
        of = carray(arguments, len(ARGUMENTS), np.int64)
        rows, chunk, outputs, capacity, batch, length = of[7], of[8], of[9], of[10], of[14], of[15]
        number, count = (call(of[16]), call(of[17])) if of[16] else (0, version * 0 + 1)
        size = ((rows + count - 1) // count + ROWS - 1) // ROWS * ROWS
        begin, end = min(rows, number * size), min(rows, (number + 1) * size)
        panels = (length + PANEL - 1) // PANEL
        attend(
            carray(pointer(of[0]), (rows * chunk, 3 * width), np.float32),
            chunk,
            outputs,
            carray(pointer(of[1]), (rows, 2, capacity, width), np.float32),
            of[11],
            of[12],
            of[13],
            carray(pointer(of[2]), (batch, heads, panels, head_dim, PANEL), np.float32),
            carray(pointer(of[3]), (batch, heads, length, head_dim), np.float32),
            carray(pointer(of[4]), rows, np.int64),
            carray(pointer(of[5]), batch, np.int64),
            carray(pointer(of[6]), (rows * outputs, width), np.float32),
            begin,
            end,
        )

    return share
