"""Arguments of the compiled attention."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Argument(IntEnum):
    """Places of the arguments: addresses of contiguous arrays, then integers.

    Attributes:
        NEW: ``[N c, 3 width]`` float32: queries (their products with keys are the logarithms of weights, to
            base 2), keys and values of the new tokens.
        OWN: ``[N, 2, C, width]`` float32: the rows' own keys and values, a ring to which new ones are added.
        PAST: ``[parts, 5]`` int64, a row of :class:`PastArgument` per part of what came before their own.
        KEYS: ``[B, heads, panels, head_dim, PANEL]`` float32, keys of the histories.
        VALUES: ``[B, heads, P, head_dim]`` float32, values of the histories.
        HISTORY_OF: ``[N]`` int64, the history that each row continues.
        FIRST: ``[B]`` int64, the first visible token of each history; at most ``P``.
        OUT: ``[N q, width]`` float32, the output.
        ROWS: ``N``, the number of rows.
        CHUNK: ``c``, the number of new tokens per row.
        OUTPUTS: ``q``, the number of last tokens whose output is wanted.
        CAPACITY: ``C``, the tokens of the ring.
        BATCH: ``B``, the number of histories.
        LENGTH: ``P``, the tokens of a history.
        PLACE: Place of the first new token in the ring.
        START: Place of the first visible token in the ring.
        SEEN: Number of visible tokens in the past and the ring, the new ones included.
        PARTS: The number of parts of the past; may be 0.
        WHOLE: 1 if a new token sees all new tokens of its row, 0 if it sees itself and those before it.
        THREAD_NUMBER: The address of a function that says which thread this is; 0 if there is only one.
        THREAD_COUNT: The address of a function that says how many threads there are; 0 if there is only one.
    """

    NEW = 0
    OWN = 1
    PAST = 2
    KEYS = 3
    VALUES = 4
    HISTORY_OF = 5
    FIRST = 6
    OUT = 7
    ROWS = 8
    CHUNK = 9
    OUTPUTS = 10
    CAPACITY = 11
    BATCH = 12
    LENGTH = 13
    PLACE = 14
    START = 15
    SEEN = 16
    PARTS = 17
    WHOLE = 18
    THREAD_NUMBER = 19
    THREAD_COUNT = 20


class PastArgument(IntEnum):
    """Places of what the loop knows of a part of the past: keys and values that rows imagined, and share.

    Attributes:
        LAYER: The address of a ring ``[M, 2, D, width]`` float32 of keys and values.
        ROWS: The address of ``[N]`` int64, the row of the ring that each row continues.
        CAPACITY: ``D``, the tokens of the ring.
        START: Place of the first visible token in the ring.
        SEEN: Number of visible tokens.
    """

    LAYER = 0
    ROWS = 1
    CAPACITY = 2
    START = 3
    SEEN = 4


def table(**arguments: int) -> np.ndarray:
    """An array of the arguments, given by the names of :class:`Argument` in small letters.

    Raises:
        KeyError: If an argument is missing.
    """
    return np.array([arguments[name] for name in _NAMES], dtype=np.int64)


_NAMES = [argument.name.lower() for argument in Argument]
