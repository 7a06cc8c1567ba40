"""Arguments of the loop through all blocks."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from tdm_agents.world_models.transformer.cpu.arguments import Argument


class LayerArgument(IntEnum):
    """Places of the addresses of a block: its keys and values, and its weights.

    Norms are ``[2, d]`` float32, gain and shift; weights are those of :func:`.tiles.packed`. The first four
    are as in :class:`.arguments.Argument`.
    """

    OWN = 0
    PAST = 1
    KEYS = 2
    VALUES = 3
    NORM_1 = 4
    QKV = 5
    OUT = 6
    NORM_2 = 7
    IN = 8
    DOWN = 9


class PassArgument(IntEnum):
    """Places of the arguments of a pass of new tokens through all blocks.

    They come after those of the attention (:class:`.arguments.Argument`). Of those, keys and values are set
    for each block, and ``NEW`` and ``OUT`` are room.

    Attributes:
        X: The address of the tokens ``[N c, d]`` float32, which are changed.
        HIDDEN: The address of the output ``[N q, d]`` float32, normalised.
        LAYERS: The address of a table ``[layers, 10]`` int64 of :class:`LayerArgument`.
        LAYER_COUNT: The number of layers.
        NORM: The address of the last norm ``[2, d]``.
        ROTATION: The address of cosines and sines ``[2, head_dim / 2]`` float32.
        FEEDFORWARD: Hidden width of the GEGLU.
        SHAPES: The address of :data:`.tiles.SHAPES`.
        ATTENTION: The address of :func:`.attention_loop.attention`.
    """

    X = 21
    HIDDEN = 22
    LAYERS = 23
    LAYER_COUNT = 24
    NORM = 25
    ROTATION = 26
    FEEDFORWARD = 27
    SHAPES = 28
    ATTENTION = 29


def pass_table(**arguments: int) -> np.ndarray:
    """An array of the arguments, given by the names of both enumerations in small letters.

    Raises:
        KeyError: If an argument is missing.
    """
    return np.array([arguments[name] for name in _NAMES], dtype=np.int64)


_NAMES = [argument.name.lower() for argument in (*Argument, *PassArgument)]
