"""Flat observations whose columns can be asked for by name: ``observation["pole", "cos"]``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from tdm_agents.errors import UnknownNameError

Path = tuple[str | int, ...]


class Columns(Tensor):
    """A tensor ``[N, n]`` of flat observations; its columns have names.

    It is an ordinary tensor, but for an index that begins with a text: the name of a scalar, or the keys and
    indices that lead to it or to several. With ``Dict(car=Box(shape=(3,)), gear=Discrete(2))``:

    - ``observation["car"]`` is ``[N, 3]``,
    - ``observation["car", 2]`` is ``[N]``, and so is ``observation["car[2]"]``, as tables name it,
    - ``observation["gear", 1]`` is ``[N]``, 1 where the gear is 1.

    Keys of a ``Dict`` inside a ``Dict`` follow one another: ``observation["pole", "cos"]``. What is computed
    from it is a plain tensor.

    Attributes:
        names: The names of the columns.
    """

    names: ColumnNames
    # as torch.nn.Parameter does: operations cost what they cost on a plain tensor, and return plain ones
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __getitem__(self, index: Any) -> Tensor:
        """The columns of a name, or what a tensor's index selects.

        Raises:
            UnknownNameError: If no column has that name.
        """
        path = index if isinstance(index, tuple) else (index,)
        if not path or not isinstance(path[0], str):
            return super().__getitem__(index)
        columns = self.names.find(path)
        return super().__getitem__((slice(None), columns))


class ColumnNames:
    """The names of the columns of flat observations.

    Args:
        labels: One per column, see :func:`tdm_agents.spaces.scalar_labels.scalar_labels`.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self._found: dict[Path, int | list[int]] = {}

    def of(self, observation: Tensor) -> Columns:
        """``observation[N, n]``, not copied, with these names."""
        named = observation.as_subclass(Columns)
        named.names = self
        return named

    def find(self, path: Path) -> int | list[int]:
        """The column that a name or path leads to, or the columns.

        Raises:
            UnknownNameError: If there is none.
        """
        if path not in self._found:
            self._found[path] = self._look_for(path)
        return self._found[path]

    def _look_for(self, path: Path) -> int | list[int]:
        if len(path) == 1 and path[0] in self.labels:
            return self.labels.index(str(path[0]))
        below = [i for i, whole in enumerate(self._paths) if whole[: len(path)] == path]
        if not below:
            asked = ", ".join(map(repr, path))
            raise UnknownNameError(
                f"the observation has no scalar [{asked}]; {self._near(path)}it has "
                f"{', '.join(self.labels)[:400]}"
            )
        return below[0] if self._paths[below[0]] == path else below

    def _near(self, path: Path) -> str:
        keys = {str(part) for whole in self._paths for part in whole[:1]} | set(self.labels)
        near = difflib.get_close_matches(str(path[0]), sorted(keys), n=1)
        return f"did you mean {near[0]!r}? " if near else ""

    @cached_property
    def _paths(self) -> list[Path]:
        return [_path(label) for label in self.labels]


def _path(label: str) -> Path:
    """``arm.tip[0, 1]`` to ``("arm", "tip", 0, 1)``, and ``gear=1`` to ``("gear", 1)``."""
    whole = re.fullmatch(r"([^\[\]=]*)(?:\[([\d, ]+)\])?(?:=(-?\d+))?", label)
    if whole is None:
        return (label,)
    keys, indices, category = whole.groups()
    numbers = [*(indices.split(", ") if indices else ()), *((category,) if category is not None else ())]
    return (*(keys.split(".") if keys else ()), *map(int, numbers))
