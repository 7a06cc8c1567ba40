"""Attention over a shared history and each row's imagined tokens, for one forward of all rows, as one loop.

What a row imagined is its own, or, since rows were taken from others, parts that they share and its own.

Scores never reach memory: for a few lines at a time (a line is a query of a row) they are computed, turned
into weights and used while they are in the first-level cache. The history is read once for these lines, by
products of matrices. Most of what is read are the imagined keys and values; they are fetched while the
history is computed.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import carray, cfunc, literally, njit, types

from tdm_agents.world_models.transformer.cpu import PANEL
from tdm_agents.world_models.transformer.cpu.arguments import Argument, PastArgument
from tdm_agents.world_models.transformer.cpu.keeping import VERSION, kept
from tdm_agents.world_models.transformer.cpu.powers import exp2_over_max
from tdm_agents.world_models.transformer.cpu.registers import COLUMNS, FETCHED, ROWS, lanes_of
from tdm_agents.world_models.transformer.cpu.vectors import call, multiply, pointer, score, weigh

_PIECE = 64
"""Tokens of the history whose values are added up between two fetches."""

_COUNT = len(Argument)
# plain integers: older numba does not accept members of enumerations as indices
_NEW, _OWN, _PAST, _KEYS, _VALUES = range(Argument.NEW, Argument.VALUES + 1)
_HISTORY_OF, _FIRST, _OUT = range(Argument.HISTORY_OF, Argument.OUT + 1)
_ROWS, _CHUNK, _OUTPUTS, _CAPACITY, _BATCH, _LENGTH = range(Argument.ROWS, Argument.LENGTH + 1)
_PLACE, _START, _SEEN, _PARTS, _WHOLE = range(Argument.PLACE, Argument.WHOLE + 1)
_THREAD_NUMBER, _THREAD_COUNT = Argument.THREAD_NUMBER.value, Argument.THREAD_COUNT.value
_PER_PART = len(PastArgument)
_PART_LAYER, _PART_ROWS, _PART_CAPACITY, _PART_START, _PART_SEEN = range(_PER_PART)

_loop = functools.partial(njit, fastmath=True, nogil=True, error_model="numpy")


@functools.cache
def attention(heads: int, head_dim: int) -> Any:
    """The loop for heads of one size, as a C function of a :func:`.arguments.table`.

    It does its thread's share of the rows. It is compiled here, which takes seconds, and kept on disk.
    """
    width, lanes = heads * head_dim, lanes_of(head_dim)
    columns = 2 * lanes if head_dim % (2 * lanes) == 0 else lanes  # of the output, per block
    version = VERSION  # numba compares it with what it kept

    def share(arguments: Any) -> None:
        _ = version
        of = carray(arguments, _COUNT, np.int64)
        rows, chunk, outputs = of[_ROWS], of[_CHUNK], of[_OUTPUTS]
        batch, length, capacity = of[_BATCH], of[_LENGTH], of[_CAPACITY]
        number, count = 0, 1
        if of[_THREAD_NUMBER]:
            number, count = call(of[_THREAD_NUMBER]), call(of[_THREAD_COUNT])
        size = ((rows + count - 1) // count + ROWS - 1) // ROWS * ROWS
        panels = (length + PANEL - 1) // PANEL
        _attend(
            carray(pointer(of[_NEW]), (rows * chunk, 3 * width), np.float32),
            carray(pointer(of[_OWN]), (rows, 2, capacity, width), np.float32),
            carray(pointer(of[_PAST]), (of[_PARTS], _PER_PART), np.int64),
            carray(pointer(of[_KEYS]), (batch, heads, panels, head_dim, PANEL), np.float32),
            carray(pointer(of[_VALUES]), (batch, heads, length, head_dim), np.float32),
            carray(pointer(of[_HISTORY_OF]), rows, np.int64),
            carray(pointer(of[_FIRST]), batch, np.int64),
            carray(pointer(of[_OUT]), (rows * outputs, width), np.float32),
            chunk,
            outputs,
            of[_PLACE],
            of[_START],
            of[_SEEN],
            of[_WHOLE],
            min(rows, number * size),
            min(rows, (number + 1) * size),
            heads,
            head_dim,
            columns,
        )

    return kept(functools.partial(cfunc, types.void(types.voidptr)), share, heads, head_dim)


@_loop
def _attend(
    new: Any,
    own: Any,
    past: Any,
    keys: Any,
    values: Any,
    history_of: Any,
    first: Any,
    out: Any,
    chunk: int,
    outputs: int,
    place: int,
    start: int,
    seen: int,
    together: int,
    begin: int,
    end: int,
    heads: int,
    head_dim: int,
    columns: int,
) -> None:
    """Attention of rows ``begin`` to ``end``; sizes of heads and of column blocks are constants."""
    width, capacity = heads * head_dim, own.shape[2]
    panels, length = keys.shape[2], values.shape[2]
    parts, mine, largest = len(past), seen, 0
    for part in range(parts):
        mine -= past[part, _PART_SEEN]
        if past[part, _PART_SEEN] > past[largest, _PART_SEEN]:
            largest = part
    if parts == 0 or mine > past[largest, _PART_SEEN]:
        largest = parts  # most of what a row imagined is its own
    most, far, tokens, at = _part(largest, past, own, mine, start)
    half, at_first = most.shape[2] * width, at * width  # from keys to values; to the first visible token
    # a row's keys or values there, in units of what products fetch
    row_size = (tokens * width // (FETCHED * _PIECE) + 1) * (FETCHED * _PIECE)
    scores = np.empty((ROWS, panels * PANEL + seen), np.float32)  # of a head
    across = scores.shape[1]
    weights = np.empty((ROWS, heads, seen), np.float32)  # of the imagined tokens
    scale = np.empty((ROWS, heads), np.float32)
    line, last, done = begin * outputs, end * outputs, begin
    while line < last:
        history = history_of[line // outputs]
        count = ROWS
        if line + ROWS > last or (1 < outputs < chunk):  # lines evenly spaced in one history, or one line
            count = 1
        for i in range(1, count):
            if history_of[(line + i) // outputs] != history:
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
            row, later = (line + i) // outputs, outputs - 1 - (line + i) % outputs  # tokens after it
            hidden = 0 if together else later
            following = (line + i + 1) // outputs if i < count - 1 else row0
            at, into = ((row + 1) * chunk - 1 - later) * 3 * width, i * heads * seen
            for part in range(parts + 1):
                source, rows, tokens, begin_at = _part(part, past, own, mine - hidden, start)
                of_row, of_next = (rows[row], rows[following]) if part < parts else (row, following)
                room = source.shape[2]
                straight = min(tokens, room - begin_at)
                # meanwhile fetch the next row's keys, or the first row's values
                ahead = ((of_next - of_row) * 2 + (i == count - 1)) * room * width
                for wrapped in range(1 + (tokens > straight)):
                    score(
                        new, at, source, (2 * of_row * room + (0 if wrapped else begin_at)) * width,
                        tokens - straight if wrapped else straight,
                        weights, into + wrapped * straight, seen,
                        ahead, literally(heads), literally(head_dim),
                    )  # fmt: skip
                into += tokens

        since = first[history]
        query0 = (row0 * chunk + chunk - outputs + line % outputs) * 3 * width
        apart = 3 * width if chunk == outputs else chunk * 3 * width
        for h in range(heads):
            of_head = history * heads + h
            for panel in range(since // PANEL, panels if since < length else 0):
                # meanwhile fetch the values of these rows
                at = (h * panels + panel) * FETCHED * head_dim
                row, soon, step = row0 + at // row_size, 0, 0
                if row <= row1:
                    of_row = far[row] if largest < parts else row
                    soon, step = (2 * of_row + 1) * half + at_first + at % row_size, FETCHED
                for part in range(0, PANEL, COLUMNS):
                    _multiply(
                        count, new, query0 + h * head_dim, apart,
                        keys, (of_head * panels + panel) * head_dim * PANEL + part, PANEL,
                        scores, panel * PANEL + part, across,
                        head_dim, most, soon, step, COLUMNS, False,
                    )  # fmt: skip
            for i in range(count):
                visible = seen if together else seen - (outputs - 1 - (line + i) % outputs)
                scores[i, length : length + visible] = weights[i, h, :visible]
                scale[i, h] = np.float32(1) / exp2_over_max(scores[i, since : length + visible])
                weights[i, h, :visible] = scores[i, length : length + visible]
                out[line + i, h * head_dim : (h + 1) * head_dim] = np.float32(0)
            for piece in range(since, length, _PIECE):
                # meanwhile fetch the keys of the next rows
                at = (h * length + piece) * FETCHED
                row, soon, step = row1 + 1 + at // row_size, 0, 0
                if row < min(end, 2 * row1 - row0 + 2):
                    of_row = far[row] if largest < parts else row
                    soon, step = 2 * of_row * half + at_first + at % row_size, FETCHED
                for part in range(0, head_dim, columns):
                    _multiply(
                        count, scores, piece, across,
                        values, (of_head * length + piece) * head_dim + part, head_dim,
                        out, line * width + h * head_dim + part, width,
                        min(_PIECE, length - piece), most, soon, step, literally(columns), True,
                    )  # fmt: skip

        for i in range(count):
            row = (line + i) // outputs
            hidden = 0 if together else outputs - 1 - (line + i) % outputs
            following = min((line + i + 1) // outputs, end - 1)
            at, into = i * heads * seen, (line + i) * width
            for part in range(parts + 1):
                source, rows, tokens, begin_at = _part(part, past, own, mine - hidden, start)
                of_row, of_next = (rows[row], rows[following]) if part < parts else (row, following)
                room = source.shape[2]
                straight = min(tokens, room - begin_at)
                # meanwhile fetch the next row's values, or keys
                ahead = ((of_next - of_row) * 2 - (i == count - 1)) * room * width
                for wrapped in range(1 + (tokens > straight)):
                    weigh(
                        weights, at + wrapped * straight, seen,
                        source, ((2 * of_row + 1) * room + (0 if wrapped else begin_at)) * width,
                        tokens - straight if wrapped else straight,
                        out, into, ahead, literally(heads), literally(head_dim),
                    )  # fmt: skip
                at += tokens
            for h in range(heads):
                for x in range(h * head_dim, (h + 1) * head_dim):
                    out[line + i, x] *= scale[i, h]
        line += count


@_loop
def _part(part: int, past: Any, own: Any, mine: int, start: int) -> Any:
    """A part of the past, or after its last part the rows' own tokens.

    Returns:
        The layer, the row of it that each row continues (nothing where each is itself), the number of visible
        tokens and the place of the first one.
    """
    rows, width = own.shape[0], own.shape[3]
    if part == len(past):
        return own, carray(pointer(0), 0, np.int64), mine, start
    return (
        carray(pointer(past[part, _PART_LAYER]), (rows, 2, past[part, _PART_CAPACITY], width), np.float32),
        carray(pointer(past[part, _PART_ROWS]), rows, np.int64),
        past[part, _PART_SEEN],
        past[part, _PART_START],
    )


@_loop
def _multiply(
    rows: int,
    a: Any,
    a_at: int,
    a_row: int,
    b: Any,
    b_at: int,
    b_row: int,
    c: Any,
    c_at: int,
    c_row: int,
    depth: int,
    soon: Any,
    soon_at: int,
    soon_step: int,
    columns: int,
    add: bool,
) -> None:
    """:func:`.vectors.multiply` for all rows or for one."""
    if rows == ROWS:
        multiply(
            a, a_at, a_row, b, b_at, b_row, c, c_at, c_row, depth,
            soon, soon_at, soon_step, ROWS, literally(columns), literally(add),
        )  # fmt: skip
    else:
        multiply(
            a, a_at, a_row, b, b_at, b_row, c, c_at, c_row, depth,
            soon, soon_at, soon_step, 1, literally(columns), literally(add),
        )  # fmt: skip
