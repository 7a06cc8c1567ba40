"""Mean and spread of data that need not fit into memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from tdm_agents.errors import WrongValueError

Float64Array = npt.NDArray[np.float64]


def moments(chunks: Iterable[npt.NDArray[Any]]) -> tuple[Float64Array, Float64Array]:
    """Mean and standard deviation over the first axis of all chunks together, in float64.

    Chunks are merged pairwise (Chan, Golub and LeVeque 1979), which does not cancel as sums of squares do.

    Args:
        chunks: Arrays ``[any, ...]``, equal in the other axes; read once.

    Raises:
        ValueError: If there is not a single row.
    """
    count = 0
    mean = squares = np.zeros(())
    for chunk in chunks:
        if not len(chunk):
            continue
        rows = np.asarray(chunk, np.float64)
        difference = rows.mean(0) - mean
        total = count + len(rows)
        squares = squares + ((rows - rows.mean(0)) ** 2).sum(0) + difference**2 * (count * len(rows) / total)
        mean = mean + difference * (len(rows) / total)
        count = total
    if not count:
        raise WrongValueError("there is not a single value to take the mean of: the data are empty")
    return mean, np.sqrt(squares / count)
