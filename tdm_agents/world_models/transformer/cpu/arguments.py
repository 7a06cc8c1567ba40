"""What the compiled attention is called with."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Argument(IntEnum):
    """Where an argument stands: addresses of contiguous arrays, then integers.

    Attributes:
        NEW: ``[N c, 3 width]`` float32: queries (their products with keys are the logarithms of weights, to
            base 2), keys and values of the new tokens.
        OWN: ``[N, 2, C, width]`` float32: the rows' own keys and values, a ring; the new ones are added.
        KEYS: ``[B, heads, panels, head_dim, PANEL]`` float32, of the histories.
        VALUES: ``[B, heads, P, head_dim]`` float32, of the histories.
        HISTORY_OF: ``[N]`` int64, the history that each row continues.
        FIRST: ``[B]`` int64, the first token of each history that is seen; at most ``P``.
        OUT: ``[N q, width]`` float32, which is written.
        ROWS: ``N``.
        CHUNK: ``c``.
        OUTPUTS: ``q``, of how many of the last tokens the output is wanted.
        CAPACITY: ``C``.
        BATCH: ``B``.
        LENGTH: ``P``.
        PLACE: In the ring, of the first new token.
        START: In the ring, of the first token that is seen.
        SEEN: How many are, the new ones included.
        THREAD_NUMBER: The address of a function that says which thread this is; 0 if there is only one.
        THREAD_COUNT: Likewise, how many there are.
    """

    NEW = 0
    OWN = 1
    KEYS = 2
    VALUES = 3
    HISTORY_OF = 4
    FIRST = 5
    OUT = 6
    ROWS = 7
    CHUNK = 8
    OUTPUTS = 9
    CAPACITY = 10
    BATCH = 11
    LENGTH = 12
    PLACE = 13
    START = 14
    SEEN = 15
    THREAD_NUMBER = 16
    THREAD_COUNT = 17


def table(**arguments: int) -> np.ndarray:
    """Arguments by the names of :class:`Argument` in small letters, as a C function takes them.

    Raises:
        KeyError: If one is missing.
    """
    return np.array([arguments[name] for name in _NAMES], dtype=np.int64)


_NAMES = [argument.name.lower() for argument in Argument]
