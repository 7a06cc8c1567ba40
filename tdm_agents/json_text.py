"""JSON from files that anybody may have written: the one reader, with limits on what it takes.

Python's own reader recurses until the stack is full, raises a plain ``ValueError`` at integers of thousands
of digits, and reads whatever size a file has. Here each of these is a mistake that names the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import numpy as np

from tdm_agents.errors import PathError, TDMError

MAX_BYTES = 32 * 2**20
"""Of a JSON file; an index of 90,000 data sets is smaller."""
MAX_DEPTH = 64
"""Of lists and objects inside each other; ours have fewer than ten."""


class JsonError(TDMError, ValueError):
    """Text that is no JSON, or JSON of another size, depth or shape than is read here."""


def load_json(path: Path) -> Any:
    """The value in a file.

    Raises:
        FileNotFoundError: If there is no such file.
        PathError: If it cannot be read.
        JsonError: If it is no JSON, or beyond :data:`MAX_BYTES` or :data:`MAX_DEPTH`; it names the file.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise JsonError(
                f"{path} has {size:,} bytes, where at most {MAX_BYTES:,} of JSON are read; restore it from "
                "where it came"
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PathError(f"{path} cannot be read ({error.strerror}); name a file that can") from error
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise JsonError(f"{path} is not JSON ({error}); restore it from where it came") from error
    return parse_json(text, str(path))


def parse_json(text: str | bytes, where: str) -> Any:
    """The value of a JSON text.

    Args:
        text: The text.
        where: What errors call it: a file, or an entry of one.

    Raises:
        JsonError: If it is no JSON, or beyond :data:`MAX_BYTES` or :data:`MAX_DEPTH`.
    """
    if not isinstance(text, str | bytes):
        raise JsonError(f"{where} is {type(text).__name__}; expected a text of JSON: it was altered")
    if len(text) > MAX_BYTES:
        raise JsonError(
            f"{where} has {len(text):,} characters, where at most {MAX_BYTES:,} of JSON are read; restore it "
            "from where it came"
        )
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise JsonError(_too_deep(where)) from error
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, integers of too many digits
        raise JsonError(f"{where} is not JSON ({error}); restore it from where it came") from error
    level = _containers([value])
    for _ in range(MAX_DEPTH + 1):
        if not level:
            return value
        level = _containers(
            child for outer in level for child in (outer.values() if isinstance(outer, dict) else outer)
        )
    raise JsonError(_too_deep(where))


def plain_number(value: Any) -> Any:
    """For ``json.dumps(default=)``: a number of NumPy as Python's.

    Raises:
        TypeError: If it is something else, as ``json`` expects.
    """
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is no JSON value")


def check_fields(value: Any, where: str, kinds: Mapping[str, type | UnionType]) -> dict[str, Any]:
    """The value itself, if it is a JSON object with entries of these types.

    Args:
        value: Of a file.
        where: What errors call it.
        kinds: By name, the type of an entry that must be there. ``int`` takes no booleans, ``float`` takes
            integers.

    Raises:
        JsonError: If it is no object, or the first entry that is missing or of another type.
    """
    if not isinstance(value, dict):
        raise JsonError(f"{where} holds {_kind(value)}; expected an object: restore it from where it came")
    for name, kind in kinds.items():
        if name not in value:
            raise JsonError(f"{where} has no {name!r}; it was altered: restore it from where it came")
        if not _is(value[name], kind):
            raise JsonError(
                f"{where} has {_kind(value[name])} as {name!r}; expected {_names(kind)}: restore it from "
                "where it came"
            )
    return value


def _containers(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, dict | list)]


def _is(value: Any, kind: type | UnionType) -> bool:
    kinds = get_args(kind) or (kind,)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (float in kinds and isinstance(value, int))


def _names(kind: type | UnionType) -> str:
    return " or ".join(k.__name__ for k in (get_args(kind) or (kind,)))


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {repr(value)[:40]}"


def _too_deep(where: str) -> str:
    return (
        f"{where} has lists or objects nested deeper than {MAX_DEPTH}; nothing of ours has: restore it from "
        "where it came"
    )
