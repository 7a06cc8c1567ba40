"""Gymnasium spaces to and from text: Minari's JSON, read with limits and with nothing lost.

Minari writes the dtype of a ``Discrete`` as int64 whatever it is, and reads a ``Dict`` with its keys sorted.
Here both are kept; what is written is still what Minari reads.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from minari.serialization import deserialize_space, serialize_space

from tdm_agents.json_text import JsonError, check_fields, parse_json

MAX_SCALARS = 2**20
"""Of one value of a space that is read from a file, flattened."""

_DTYPE = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)")


def space_to_json(space: spaces.Space[Any]) -> str:
    """What :func:`space_from_json` and Minari read back.

    Raises:
        NotImplementedError: For a kind of space that Minari cannot write.
    """
    return json.dumps(_with_dtypes(space, json.loads(serialize_space(space))))


def space_from_json(text: str, where: str = "a space") -> spaces.Space[Any]:
    """The space that a text says, the keys of a ``Dict`` in its order.

    Args:
        text: By :func:`space_to_json` or Minari.
        where: What errors call it.

    Raises:
        JsonError: If it is none, or one of more than :data:`MAX_SCALARS` scalars.
    """
    try:
        space = _space(parse_json(text, where), where)
        size = spaces.flatdim(space)
    except JsonError:
        raise
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        NotImplementedError,
        TypeError,
        ValueError,
    ) as error:
        raise JsonError(
            f"{where} is no space that can be read ({type(error).__name__}: {str(error)[:200]}); it was "
            "altered: restore it from where it came"
        ) from error
    if size > MAX_SCALARS:
        raise JsonError(f"{where} has {size:,} scalars; at most {MAX_SCALARS:,} are read from a file")
    return space


def _with_dtypes(space: spaces.Space[Any], value: Mapping[str, Any]) -> dict[str, Any]:
    told = dict(value)
    if isinstance(space, spaces.Dict):
        told["subspaces"] = {k: _with_dtypes(s, value["subspaces"][k]) for k, s in space.spaces.items()}
    elif isinstance(space, spaces.Tuple):
        told["subspaces"] = [
            _with_dtypes(s, v) for s, v in zip(space.spaces, value["subspaces"], strict=True)
        ]
    elif isinstance(space, spaces.Discrete):
        told["dtype"] = str(np.dtype(space.dtype))
    return told


def _space(value: Any, where: str) -> spaces.Space[Any]:
    value = parse_json(value, where) if isinstance(value, str) else value  # older ones hold texts in texts
    kind = check_fields(value, where, {"type": str})["type"]
    if kind == "Dict":
        # pairs keep the order: Gymnasium sorts a mapping by key
        children = check_fields(value, where, {"subspaces": dict})["subspaces"]
        return spaces.Dict([(key, _space(child, where)) for key, child in children.items()])
    if kind == "Tuple":
        parts = check_fields(value, where, {"subspaces": list})["subspaces"]
        return spaces.Tuple([_space(child, where) for child in parts])
    dtype = value.get("dtype", "int64")
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
        raise JsonError(f"{where} has the dtype {str(dtype)[:40]!r}; expected one of numbers")
    size = value.get("shape", value.get("n", 1) if kind == "MultiBinary" else 1)
    if math.prod(size if isinstance(size, list) else [size]) > MAX_SCALARS:
        raise JsonError(f"{where} has the size {str(size)[:40]}; at most {MAX_SCALARS:,} scalars are read")
    if kind == "Discrete":
        start, number = (check_fields(value, where, {k: int})[k] for k in ("start", "n"))
        if np.dtype(dtype) == np.int64:
            return spaces.Discrete(number, start=start)
        if "dtype" not in inspect.signature(spaces.Discrete).parameters:
            raise JsonError(
                f"{where} is a Discrete of {dtype}; Gymnasium {gym.__version__} has them of int64 alone: "
                "install a newer one"
            )
        return spaces.Discrete(number, start=start, dtype=np.dtype(dtype).type)
    space: spaces.Space[Any] = deserialize_space(dict(value))
    return space
