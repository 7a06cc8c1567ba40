"""The options of a command by name, read from its dataclass: what ``--help`` lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import tyro


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a command.

    Attributes:
        name: As it is typed, without ``--``.
        path: The fields that lead to its value, from the dataclass of the command.
        kind: Its type, without annotations.
        default: None where it has none.
        positional: Whether it is typed without its name.
        repeated: Whether it is given once per value.
    """

    name: str
    path: tuple[str, ...]
    kind: Any
    default: Any
    positional: bool
    repeated: bool

    @property
    def is_flag(self) -> bool:
        """Whether it is typed as ``--name`` or ``--no-name``."""
        return self.kind is bool and not self.positional


def option_table(kind: type[Any]) -> dict[str, Option]:
    """The options of a dataclass of arguments, those of the dataclasses in it included.

    Args:
        kind: A dataclass that tyro reads; a field of its own with subcommands has no option.
    """
    return {option.name: option for option in _options(kind, ())}


def subcommands(kind: type[Any]) -> dict[str, type[Any]]:
    """The dataclasses of a command's subcommands, by the word that chooses each; empty where it has none."""
    return {one.__name__.lower(): one for f in _fields(kind) for one in _dataclasses_of(f.bare)}


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    bare: Any
    marks: tuple[Any, ...]
    default: Any


def _fields(kind: type[Any]) -> Iterator[_Field]:
    hints = get_type_hints(kind, include_extras=True)
    for f in fields(kind):
        bare, marks = hints[f.name], ()
        while get_origin(bare) is Annotated:
            bare, *more = get_args(bare)
            marks += tuple(more)
        default = f.default if f.default_factory is MISSING else f.default_factory()
        yield _Field(f.name, bare, marks, None if default is MISSING else default)


def _options(kind: type[Any], path: tuple[str, ...]) -> Iterator[Option]:
    for f in _fields(kind):
        if isinstance(f.bare, type) and is_dataclass(f.bare):
            yield from _options(f.bare, (*path, f.name))
        elif not _dataclasses_of(f.bare):
            yield Option(
                f.name.rstrip("_").replace("_", "-"),
                (*path, f.name),
                f.bare,
                f.default,
                _mark(tyro.conf.Positional) in f.marks,
                _mark(tyro.conf.UseAppendAction) in f.marks,
            )


def _dataclasses_of(bare: Any) -> list[type[Any]]:
    """The dataclasses that a union of subcommands is made of."""
    if get_origin(bare) not in (Union, UnionType):
        return []
    parts = [get_args(one)[0] if get_origin(one) is Annotated else one for one in get_args(bare)]
    return [one for one in parts if isinstance(one, type) and is_dataclass(one)]


def _mark(marker: Any) -> Any:
    """What ``marker[T]`` adds to a type's annotations."""
    return get_args(marker[int])[1]
