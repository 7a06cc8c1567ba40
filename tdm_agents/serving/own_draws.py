"""Random numbers of a shared decision, of which each session draws its own.

A planner draws for all its environments at once, from one generator. Where the environments belong to
several sessions, that would make a session's actions depend on who else is waiting. Here each draw of a
shared decision is made in parts instead: every session's part from its own generator, in the shape that the
session would draw alone, and then put together along the axis of the environments. Which axis that is, a
decision for one environment tells, whose draws were recorded: it is the one that grows with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Draw = tuple[str, tuple[int, ...]]
"""A function's name, and the shape of what is drawn (of ``multinomial``: of its weights)."""

_SHAPED = {torch.rand: 0, torch.randn: 0, torch.randint: -1}
"""Functions that take a shape, and at which place it stands; the numbers themselves do as well at 0."""


class DrawsDifferError(RuntimeError):
    """Draws that cannot be made in parts; the sessions have to be decided for one by one."""


class RecordedDraws(TorchFunctionMode):
    """While it is active, keeps what is drawn from a generator.

    Args:
        generator: The generator.

    Attributes:
        draws: Every draw, in order.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator
        self.draws: list[Draw] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call ``func``."""
        given = dict(kwargs or {})
        if given.get("generator") is self._generator:
            self.draws.append((func.__name__, _shape(func, args, given)))
        return func(*args, **given)


class OwnDraws(TorchFunctionMode):
    """While it is active, draws from one generator are made in parts, from those of several sessions.

    Args:
        generator: What the planner is given; nothing is drawn from it.
        parts: Generator and number of environments of each session, in the order of the rows.
        draws: What a decision for one environment drew (:class:`RecordedDraws`).
    """

    def __init__(
        self,
        generator: torch.Generator,
        parts: Sequence[tuple[torch.Generator, int]],
        draws: Sequence[Draw],
    ) -> None:
        super().__init__()
        self._generator, self._parts, self._draws = generator, parts, draws
        self._untouched = generator.get_state()
        self._rows = sum(rows for _, rows in parts)
        self._made = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call ``func``, once per session where it draws.

        Raises:
            DrawsDifferError: If it draws something else than for one environment.
        """
        given = dict(kwargs or {})
        if given.get("generator") is not self._generator:
            return func(*args, **given)
        shape = _shape(func, args, given)
        if self._made == len(self._draws):
            raise DrawsDifferError(f"{func.__name__} {shape} beyond the draws for one environment")
        name, alone = self._draws[self._made]
        self._made += 1
        if func.__name__ != name or len(shape) != len(alone):
            raise DrawsDifferError(f"{func.__name__} {shape} where one environment has {name} {alone}")
        axes = [i for i, (all_rows, one) in enumerate(zip(shape, alone, strict=True)) if all_rows != one]
        if len(axes) != 1 or shape[axes[0]] != alone[axes[0]] * self._rows:
            raise DrawsDifferError(f"{func.__name__} {shape} of {self._rows} environments, {alone} of one")
        axis = axes[0]
        sizes = [alone[axis] * rows for _, rows in self._parts]
        generators = [generator for generator, _ in self._parts]
        if func in _SHAPED:
            drawn = [
                _shaped(func, (*alone[:axis], size, *alone[axis + 1 :]), args, {**given, "generator": one})
                for size, one in zip(sizes, generators, strict=True)
            ]
            return torch.cat(drawn, dim=axis)
        pieces = torch.split(args[0], sizes, dim=axis)
        if func.__name__ == "multinomial":
            made = [
                func(piece, *args[1:], **{**given, "generator": one})
                for piece, one in zip(pieces, generators, strict=True)
            ]
            return torch.cat(made, dim=axis)
        for piece, one in zip(pieces, generators, strict=True):  # in place, such as exponential_
            piece.copy_(func(torch.empty_like(piece).contiguous(), *args[1:], **{**given, "generator": one}))
        return args[0]

    def check_done(self) -> None:
        """Refuse a decision that drew less than for one environment, or past this mode.

        Raises:
            DrawsDifferError: If it did.
        """
        if self._made != len(self._draws) or not torch.equal(self._generator.get_state(), self._untouched):
            raise DrawsDifferError("some of what was drawn for one environment was not drawn for several")


def _shape(func: Callable[..., Any], args: tuple[Any, ...], given: Mapping[str, Any]) -> tuple[int, ...]:
    if func in _SHAPED:
        size = given.get("size", args[_SHAPED[func]] if args else ())
        return tuple(args if isinstance(size, int) else size)
    in_place = func.__name__.endswith("_") and not func.__name__.startswith("_")
    if (in_place or func.__name__ == "multinomial") and args and isinstance(args[0], Tensor):
        return tuple(args[0].shape)
    raise DrawsDifferError(f"{func.__name__} draws in a way that is not known")


def _shaped(
    func: Callable[..., Any], shape: tuple[int, ...], args: tuple[Any, ...], given: Mapping[str, Any]
) -> Tensor:
    others = {name: value for name, value in given.items() if name != "size"}
    bounds = args if "size" in given else args[:-1]
    drawn: Tensor = func(*(bounds if func is torch.randint else ()), shape, **others)
    return drawn
