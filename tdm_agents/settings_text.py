"""Settings as people write them: a word, then ``NAME=VALUE`` pairs, in one line of text."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from tdm_agents.errors import WrongValueError
from tdm_agents.json_text import JsonError, parse_json

_PYTHON = {"True": True, "False": False, "None": None}


def split_line(text: str, first: str) -> tuple[str, dict[str, str]]:
    """The first word of a line, and the texts of its ``NAME=VALUE`` pairs.

    Args:
        text: The line, with quotes as in a shell.
        first: A description of the first word, for the message.

    Raises:
        ValueError: If the line cannot be read.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise WrongValueError(f"{text!r} cannot be read ({error}); close every quote") from error
    if not words or "=" in words[0]:
        raise WrongValueError(f"{text!r} does not begin with {first}; expected that, and then NAME=VALUE")
    options: dict[str, str] = {}
    for pair in words[1:]:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise WrongValueError(f"{pair!r} in {text!r} is not NAME=VALUE, for example planner=mppi")
        options[name] = value
    return words[0], options


def parse_settings(texts: Mapping[str, str]) -> dict[str, Any]:
    """``{"num-samples": "64"}`` to ``{"num_samples": 64}``; see :func:`parse_value`."""
    return {name.replace("-", "_"): parse_value(text) for name, text in texts.items()}


def parse_value(text: str) -> Any:
    """A JSON value, Python's True, False and None, or the text itself where it is neither."""
    if text in _PYTHON:
        return _PYTHON[text]
    try:
        return parse_json(text, "the value")
    except JsonError:
        return text


def value_text(value: Any) -> str:
    """The inverse of :func:`parse_value` for JSON values, quoted where a shell would split it."""
    if isinstance(value, str):
        plain = parse_value(value) == value and isinstance(parse_value(value), str)
        return shlex.quote(value if plain else json.dumps(value))
    if value is None or isinstance(value, bool):
        return str(value)
    return shlex.quote(json.dumps(value, separators=(",", ":"), default=str))
