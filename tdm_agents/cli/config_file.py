"""``--config FILE``: the options of a command as YAML, under the names that ``--help`` shows.

A file is turned into the words that would have been typed, so that it is checked as they are. Options that
are typed as well count instead of the file's.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from tdm_agents.cli.option_table import Option, option_table, subcommands
from tdm_agents.errors import PathMissingError, UnknownNameError, WrongValueError


def words_of(file: Path, kind: type[Any], typed: Sequence[str], command: str) -> list[str]:
    """The words of a command: those of a file, and after them those that were typed.

    Args:
        file: The file.
        kind: The command's dataclass.
        typed: What was typed after the command.
        command: Name of the command, for messages.

    Raises:
        PathError: If there is no such file, or it cannot be read.
        ValueError: If it is no YAML mapping, or a value is of the wrong kind.
        LookupError: If an option does not exist; the message gives the nearest one.
    """
    first: list[str] = []
    if (known := subcommands(kind)) and typed and typed[0] in known:
        first, typed, kind = [typed[0]], typed[1:], known[typed[0]]
        command = f"{command} {first[0]}"
    options = option_table(kind)
    given = {_name(word, options) for word in typed if word.startswith("--")}
    places = [option.name for option in options.values() if option.positional]
    count = next((i for i, word in enumerate(typed) if word.startswith("-")), len(typed))
    given |= set(places[:count])
    words: list[str] = []
    placed: list[str] = []
    for name, value in _read(file).items():
        option = options.get(str(name).replace("_", "-"))
        if option is None:
            raise UnknownNameError(f"{file}: tdm {command} has no option {name!r}; {_near(name, options)}")
        if option.name in given or value is None:
            continue
        (placed if option.positional else words).extend(_typed(option, value, file))
    return [*first, *typed[:count], *placed, *words, *typed[count:]]


def config_text(settings: Any, command: str) -> str:
    """The options that a command runs with, as YAML.

    Args:
        settings: The command's dataclass, or that of its subcommand.
        command: What is typed after ``tdm``, for the first line.
    """
    head = f"# tdm {command} --config FILE runs the same again; options that are typed as well count instead"
    return "\n".join([head, *config_lines(settings), ""])


def config_lines(settings: Any) -> list[str]:
    """The options in a dataclass of arguments, as lines of YAML; those of a subcommand without its name."""
    if subcommands(type(settings)):
        (f,) = fields(settings)
        settings = getattr(settings, f.name)
    values = {name: _value(settings, option) for name, option in option_table(type(settings)).items()}
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return text.splitlines()


def keep_config(settings: Any, command: str, folder: Path, name: str = "") -> None:
    """Write what a command runs with into its folder, as ``tdm-COMMAND.yaml``, or ``tdm-COMMAND-NAME.yaml``.

    Args:
        settings: The command's dataclass, or that of its subcommand.
        command: What is typed after ``tdm``.
        folder: The folder; made if needed.
        name: What tells it from others of the same command in the same folder.
    """
    file = "-".join(["tdm", *command.split(), *filter(None, [name])])
    _write(folder / f"{file}.yaml", settings, command)


def keep_config_beside(file: Path, settings: Any, command: str) -> None:
    """Write what a command runs with beside the file that it makes, with the ending ``.config.yaml``."""
    _write(file.with_suffix(".config.yaml"), settings, command)


def _write(path: Path, settings: Any, command: str) -> None:
    from tdm_agents.storage import write_bytes  # here: it imports torch

    write_bytes(path, config_text(settings, command).encode())


def _read(file: Path) -> Mapping[Any, Any]:
    try:
        read = yaml.safe_load(file.read_text())
    except FileNotFoundError as error:
        raise PathMissingError(f"--config {file}: there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise WrongValueError(f"--config {file} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise WrongValueError(f"--config {file} is not YAML: {' '.join(str(error).split())}") from error
    if read is None:
        return {}
    if not isinstance(read, dict):
        raise WrongValueError(
            f"--config {file} holds a {type(read).__name__}; expected options, as in `steps: 100`"
        )
    return read


def _name(word: str, options: Mapping[str, Option]) -> str:
    """The option that a typed word names."""
    name = word.removeprefix("--").partition("=")[0].replace("_", "-")
    plain = name.removeprefix("no-")
    return plain if plain in options and options[plain].is_flag else name


def _near(name: Any, options: Mapping[str, Option]) -> str:
    near = difflib.get_close_matches(str(name).replace("_", "-"), options, n=1)
    return f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(options)}"


def _typed(option: Option, value: Any, file: Path) -> Iterator[str]:
    """The words that give an option a value."""
    dashed = f"--{option.name}"
    expected = ""
    if option.is_flag:
        expected = "" if isinstance(value, bool) else "true or false"
    elif isinstance(option.default, dict):
        expected = "" if isinstance(value, dict) else "names with values"
    elif option.repeated and not isinstance(value, list):
        value = [value]
    elif isinstance(value, dict):
        expected = "a value"
    if expected:
        raise WrongValueError(f"{file}: {option.name} is {value!r}; expected {expected}")
    if option.is_flag:
        yield dashed if value else f"--no-{option.name}"
    elif isinstance(value, dict):
        if value:
            yield from (dashed, *(text for pair in value.items() for text in map(_text, pair)))
    elif option.repeated:
        yield from (f"{dashed}={_text(one)}" for one in value)
    elif isinstance(value, list):
        if not option.positional and (value or option.default):
            yield dashed
        yield from map(_text, value)
    else:
        yield _text(value) if option.positional else f"{dashed}={_text(value)}"


def _text(value: Any) -> str:
    """A value of YAML as it is typed; settings in dictionaries are read as JSON."""
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _value(settings: Any, option: Option) -> Any:
    """The value of an option in a dataclass, of types that YAML has."""
    for name in option.path:
        settings = getattr(settings, name)
    return _plain(settings)


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value
