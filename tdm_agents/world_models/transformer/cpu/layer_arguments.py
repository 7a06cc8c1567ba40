"""Arguments of the loop through all blocks."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from tdm_agents.world_models.transformer.cpu.arguments import Argument


class LayerArgument(IntEnum):
    """Places of the addresses of a block: its keys and values, and its weights.

    Norms are ``[2, d]`` float32, gain and shift; weights are those of :func:`.tiles.packed`. The first three
    are as in :class:`.arguments.Argument`.
    """

    OWN = 0
    KEYS = 1
    VALUES = 2
    NORM_1 = 3
    QKV = 4
    OUT = 5
    NORM_2 = 6
    IN = 7
    DOWN = 8


class PassArgument(IntEnum):
    """Places of the arguments of a pass of new tokens through all blocks.

    They come after those of the attention (:class:`.arguments.Argument`). Of those, keys and values are set
    for each block, and ``NEW`` and ``OUT`` are room.

    Attributes:
        X: The address of the tokens ``[N c, d]`` float32, which are changed.
        HIDDEN: The address of the output ``[N q, d]`` float32, normalised.
        LAYERS: The address of a table ``[layers, 9]`` int64 of :class:`LayerArgument`.
        LAYER_COUNT: The number of layers.
        NORM: The address of the last norm ``[2, d]``.
        ROTATION: The address of cosines and sines ``[2, head_dim / 2]`` float32.
        FEEDFORWARD: Hidden width of the GEGLU.
        SHAPES: The address of :data:`.tiles.SHAPES`.
        ATTENTION: The address of :func:`.attention_loop.attention`.
    """

    X = 19
    HIDDEN = 20
    LAYERS = 21
    LAYER_COUNT = 22
    NORM = 23
    ROTATION = 24
    FEEDFORWARD = 25
    SHAPES = 26
    ATTENTION = 27


def pass_table(**arguments: int) -> np.ndarray:
    """An array of the arguments, given by the names of both enumerations in small letters.

    Raises:
        KeyError: If an argument is missing.
    """
    return np.array([arguments[name] for name in _NAMES], dtype=np.int64)


_NAMES = [argument.name.lower() for argument in (*Argument, *PassArgument)]
