"""LLVM instructions on vector registers, and the number of values that such a register holds here."""

from __future__ import annotations

from math import gcd
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils

# 32 registers of 512 bits; otherwise 16 of 256
_WIDE = bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))

LANES = 16 if _WIDE else 8
"""Numbers in a register."""
ROWS = 8 if _WIDE else 4
"""Rows of a product that are computed together; their sums fill half of the registers."""
COLUMNS = 2 * LANES
"""Columns of a product that are computed together."""

LINE = 16
"""Numbers in a cache line."""
FETCHED = 2 * LINE
"""Numbers that a product fetches per step of its depth."""
FLOAT, INT, INDEX = ir.FloatType(), ir.IntType(32), ir.IntType(64)
FAST = ("fast",)  # sums in any order, fused products and sums
ORDER = ("nnan", "nsz")  # infinities occur


def lanes_of(size: int) -> int:
    """Numbers per register, chosen so that whole registers make up ``size`` numbers."""
    return gcd(size, LANES)


class Instructions:
    """Writer of LLVM instructions; arrays are arguments by number."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self._builder = builder
        self._data: dict[int, Any] = {
            number: context.make_array(kind)(context, builder, args[number]).data
            for number, kind in enumerate(signature.args)
            if isinstance(kind, types.Array)
        }

    def plus(self, x: Any, y: Any) -> Any:
        """The sum of an index and another one, or an integer."""
        return self._builder.add(x, _constant(y))

    def times(self, x: Any, y: Any) -> Any:
        """The product of an index and another one, or an integer."""
        return self._builder.mul(x, _constant(y))

    def pointer(self, array: int, at: Any) -> Any:
        """The pointer to a number of an array."""
        return self._builder.gep(self._data[array], [at])

    def load(self, array: int, at: Any, lanes: int) -> Any:
        """Load a register of neighbouring numbers."""
        vector = ir.VectorType(FLOAT, lanes)
        return self._builder.load(
            self._builder.bitcast(self.pointer(array, at), vector.as_pointer()), align=4
        )

    def store(self, value: Any, array: int, at: Any) -> None:
        """Store a number or a register in an array."""
        into = self._builder.bitcast(self.pointer(array, at), value.type.as_pointer())
        self._builder.store(value, into, align=4)

    def splat(self, array: int, at: Any, lanes: int) -> Any:
        """Load one number into all lanes."""
        vector = ir.VectorType(FLOAT, lanes)
        nothing = ir.Constant(vector, ir.Undefined)
        one = self._builder.insert_element(
            nothing, self._builder.load(self.pointer(array, at)), ir.Constant(INT, 0)
        )
        first = ir.Constant(ir.VectorType(INT, lanes), [0] * lanes)
        return self._builder.shuffle_vector(one, nothing, first)

    def sum(self, lanes: int, start: Any = None) -> Any:
        """A register to add to, which starts at ``start`` or at 0."""
        vector = ir.VectorType(FLOAT, lanes)
        register = cgutils.alloca_once(self._builder, vector)
        self._builder.store(ir.Constant(vector, [0.0] * lanes) if start is None else start, register)
        return register

    def larger(self, x: Any, y: Any) -> Any:
        """The larger of two numbers, or of each lane."""
        return self._builder.select(self._builder.fcmp_ordered(">", x, y, flags=ORDER), x, y)

    def add_product(self, register: Any, x: Any, y: Any) -> None:
        """Add a product to a :meth:`sum`."""
        product = self._builder.fmul(x, y, flags=FAST)
        self._builder.store(self._builder.fadd(self._builder.load(register), product, flags=FAST), register)

    def function(self, name: str, result: Any, arguments: list[Any]) -> Any:
        """One of LLVM's own functions."""
        return cgutils.get_or_insert_function(self._builder.module, ir.FunctionType(result, arguments), name)

    def fetch(self, array: int, at: Any, lines: int) -> None:
        """Begin to load cache lines into the second-level cache; addresses outside an array do no harm."""
        byte = ir.IntType(8).as_pointer()
        prefetch = self.function("llvm.prefetch.p0", ir.VoidType(), [byte, INT, INT, INT])
        read, second_level, data = (ir.Constant(INT, x) for x in (0, 2, 1))
        for line in range(lines):
            place = self._builder.bitcast(self.pointer(array, self.plus(at, line * LINE)), byte)
            self._builder.call(prefetch, [place, read, second_level, data])


def _constant(x: Any) -> Any:
    return ir.Constant(INDEX, x) if isinstance(x, int) else x
