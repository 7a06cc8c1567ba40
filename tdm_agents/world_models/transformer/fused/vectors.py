"""What a CPU's vector unit does best, as LLVM instructions: numba's own loops do not keep sums in registers.

Each intrinsic is a loop over pointers into arrays whose shape it does not look at; offsets and distances are
in numbers. How much is kept in registers is known when it is compiled.
"""

from __future__ import annotations

import zlib
from math import gcd
from pathlib import Path
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_WIDE = bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))

LANES = 16 if _WIDE else 8
"""Numbers in a register."""
ROWS = 8 if _WIDE else 4
"""Rows of a product that are computed together; their sums fill half of all registers."""
COLUMNS = 2 * LANES
"""Columns of a product that are computed together."""

_LINE = 16
"""Numbers in a line of cache."""
FETCHED = 2 * _LINE
"""Numbers that a product fetches for each of its depth."""
_FLOAT, _INT, _INDEX = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FAST = ("fast",)  # sums in any order, products and sums as one instruction


VERSION = zlib.crc32(Path(__file__).read_bytes())
"""A constant for functions that are kept on disk: numba knows them by their own source and constants."""


def kept(compiler: Any, function: Any) -> Any:
    """A function that numba compiles when it is first called, and keeps on disk where that can be."""
    try:
        return compiler(cache=True)(function)
    except RuntimeError:  # nowhere to write: neither beside its file nor in the user's cache
        return compiler()(function)


def lanes_of(size: int) -> int:
    """Numbers in a register, so that registers make up ``size`` numbers."""
    return gcd(size, LANES)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def as_float(_: Any, bits: Any) -> Any:
    """The float32 of these int32 bits."""
    return types.float32(types.int32), lambda context, builder, signature, args: builder.bitcast(
        args[0], _FLOAT
    )


@intrinsic  # type: ignore[untyped-decorator]
def pointer(_: Any, address: Any) -> Any:
    """The pointer to an address, int64."""
    byte = ir.IntType(8).as_pointer()
    return types.voidptr(types.int64), lambda context, builder, signature, args: builder.inttoptr(
        args[0], byte
    )


@intrinsic  # type: ignore[untyped-decorator]
def call(_: Any, address: Any) -> Any:
    """What a C function at an address, of no arguments, returns: an int."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = builder.inttoptr(args[0], ir.FunctionType(_INT, []).as_pointer())
        return builder.sext(builder.call(function, []), _INDEX)

    return types.int64(types.int64), generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def multiply(
    _: Any,
    a: Any,
    a_at: Any,
    a_row: Any,
    b: Any,
    b_at: Any,
    b_row: Any,
    c: Any,
    c_at: Any,
    c_row: Any,
    depth: Any,
    soon: Any,
    soon_at: Any,
    soon_step: Any,
    rows: Any,
    columns: Any,
    add: Any,
) -> Any:
    """``c[r, :] (+)= sum_k a[r, k] b[k, :]`` for ``rows`` and ``columns``, which are fixed, as is ``add``.

    Meanwhile :data:`FETCHED` numbers of ``soon`` are fetched for each ``k``, ``soon_step`` apart.
    """
    lanes = lanes_of(columns.literal_value)
    count, registers = rows.literal_value, columns.literal_value // lanes
    index = types.int64
    signature = types.void(
        a, index, index, b, index, index, c, index, index, index, soon, index, index, rows, columns, add
    )

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _Code(context, builder, signature, args)
        c_rows = [code.plus(args[7], code.times(args[8], r)) for r in range(count)]
        places = [[code.plus(row, x * lanes) for x in range(registers)] for row in c_rows]
        adds = add.literal_value
        sums = [[code.sum(lanes, code.load(6, at, lanes) if adds else None) for at in row] for row in places]
        with cgutils.for_range(builder, args[9]) as loop:
            code.fetch(10, code.plus(args[11], code.times(args[12], loop.index)), FETCHED // _LINE)
            line = code.plus(args[4], code.times(args[5], loop.index))
            right = [code.load(3, code.plus(line, x * lanes), lanes) for x in range(registers)]
            for r in range(count):
                at = code.plus(code.plus(args[1], code.times(args[2], r)), loop.index)
                left = code.splat(0, at, lanes)
                for x in range(registers):
                    code.add_product(sums[r][x], left, right[x])
        for r in range(count):
            for into, at in zip(sums[r], places[r], strict=True):
                code.store(builder.load(into), 6, at)
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def score(
    _: Any,
    query: Any,
    query_at: Any,
    keys: Any,
    keys_at: Any,
    count: Any,
    scores: Any,
    scores_at: Any,
    scores_row: Any,
    ahead: Any,
    heads: Any,
    head_dim: Any,
) -> Any:
    """``scores[h, j] = query[h] . keys[j, h]`` for ``count`` tokens, of which ``ahead`` is fetched, too."""
    number, size = heads.literal_value, head_dim.literal_value
    lanes, index = lanes_of(size), types.int64
    signature = types.void(query, index, keys, index, index, scores, index, index, index, heads, head_dim)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _Code(context, builder, signature, args)
        vector = ir.VectorType(_FLOAT, lanes)
        total = code.function(f"llvm.vector.reduce.fadd.v{lanes}f32", _FLOAT, [_FLOAT, vector])
        parts = range(0, size, lanes)
        asked = [
            [code.load(0, code.plus(args[1], h * size + x), lanes) for x in parts] for h in range(number)
        ]
        with cgutils.for_range(builder, args[4]) as loop:
            token = code.plus(args[3], code.times(loop.index, number * size))
            code.fetch(2, code.plus(token, args[8]), -(-number * size // _LINE))
            for h in range(number):
                sums = code.sum(lanes)
                for part, x in zip(asked[h], parts, strict=True):
                    code.add_product(sums, part, code.load(2, code.plus(token, h * size + x), lanes))
                dot = builder.call(total, [ir.Constant(_FLOAT, 0.0), builder.load(sums)], fastmath=_FAST)
                at = code.plus(code.plus(args[6], loop.index), code.times(args[7], h))
                builder.store(dot, code.pointer(5, at))
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def weigh(
    _: Any,
    weights: Any,
    weights_at: Any,
    weights_row: Any,
    values: Any,
    values_at: Any,
    count: Any,
    out: Any,
    out_at: Any,
    ahead: Any,
    heads: Any,
    head_dim: Any,
) -> Any:
    """``out[h] += sum_j weights[h, j] values[j, h]`` over ``count`` tokens, of which ``ahead`` is fetched."""
    number, size = heads.literal_value, head_dim.literal_value
    lanes, index = lanes_of(size), types.int64
    signature = types.void(weights, index, index, values, index, index, out, index, index, heads, head_dim)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _Code(context, builder, signature, args)
        parts = range(0, size, lanes)
        places = [[code.plus(args[7], h * size + x) for x in parts] for h in range(number)]
        sums = [[code.sum(lanes, code.load(6, at, lanes)) for at in row] for row in places]
        with cgutils.for_range(builder, args[5]) as loop:
            token = code.plus(args[4], code.times(loop.index, number * size))
            code.fetch(3, code.plus(token, args[8]), -(-number * size // _LINE))
            for h in range(number):
                at = code.plus(code.plus(args[1], loop.index), code.times(args[2], h))
                weight = code.splat(0, at, lanes)
                for into, x in zip(sums[h], parts, strict=True):
                    code.add_product(into, weight, code.load(3, code.plus(token, h * size + x), lanes))
        for h in range(number):
            for into, at in zip(sums[h], places[h], strict=True):
                code.store(builder.load(into), 6, at)
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def largest(_: Any, x: Any, count: Any) -> Any:
    """The largest of the first ``count`` numbers; -inf of none."""
    signature = types.float32(x, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _Code(context, builder, signature, args)
        at_once = 4 * LANES
        vector = ir.VectorType(_FLOAT, LANES)
        least = ir.Constant(vector, [float("-inf")] * LANES)
        found = [code.sum(LANES, least) for _ in range(4)]
        size = ir.Constant(_INDEX, at_once)
        with cgutils.for_range(builder, builder.udiv(args[1], size)) as loop:
            for x, into in enumerate(found):
                part = code.load(0, code.plus(code.times(loop.index, at_once), x * LANES), LANES)
                builder.store(code.larger(builder.load(into), part), into)
        one, two, three, four = (builder.load(x) for x in found)
        both = code.larger(code.larger(one, two), code.larger(three, four))
        reduce = code.function(f"llvm.vector.reduce.fmax.v{LANES}f32", _FLOAT, [vector])
        most = cgutils.alloca_once(builder, _FLOAT)
        builder.store(builder.call(reduce, [both], fastmath=_FAST), most)
        rest = builder.urem(args[1], size)
        with cgutils.for_range(builder, rest) as loop:
            number = builder.load(code.pointer(0, builder.add(builder.sub(args[1], rest), loop.index)))
            builder.store(code.larger(builder.load(most), number), most)
        return builder.load(most)

    return signature, generate


@njit(fastmath=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def exp2_over_max(x: Any) -> Any:
    """``x = 2 ** (x - max(x))`` in place, and the sum; relative error below 3e-7.

    The fraction's power is a polynomial (least squares at Chebyshev's nodes), the whole number is added to
    the exponent. What is below ``2 ** -126`` stays there.
    """
    most = largest(x, x.shape[0])
    total = np.float32(0)
    for j in range(x.shape[0]):
        power = max(x[j] - most, np.float32(-126))
        whole = np.floor(power + np.float32(0.5))
        f = power - whole
        y = np.float32(EXP2[5])
        y = y * f + np.float32(EXP2[4])
        y = y * f + np.float32(EXP2[3])
        y = y * f + np.float32(EXP2[2])
        y = y * f + np.float32(EXP2[1])
        y = y * f + np.float32(EXP2[0])
        y *= as_float((np.int32(whole) + np.int32(127)) << np.int32(23))
        x[j] = y
        total += y
    return total


def _exp2_polynomial() -> tuple[float, ...]:
    """Coefficients of powers 0 to 5; of 0 it is 1."""
    node = 0.5 * np.cos((np.arange(64) + 0.5) * np.pi / 64)
    powers = node[:, None] ** np.arange(1, 6)
    scale = 2.0**-node  # relative errors
    found, *_ = np.linalg.lstsq(powers * scale[:, None], (2.0**node - 1.0) * scale, rcond=None)
    return (1.0, *(float(x) for x in found))


EXP2 = _exp2_polynomial()


class _Code:
    """Writes LLVM instructions; arrays are arguments by number."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self._builder = builder
        self._data: dict[int, Any] = {
            number: context.make_array(kind)(context, builder, args[number]).data
            for number, kind in enumerate(signature.args)
            if isinstance(kind, types.Array)
        }

    def plus(self, x: Any, y: Any) -> Any:
        return self._builder.add(x, _constant(y))

    def times(self, x: Any, y: Any) -> Any:
        return self._builder.mul(x, _constant(y))

    def pointer(self, array: int, at: Any) -> Any:
        return self._builder.gep(self._data[array], [at])

    def load(self, array: int, at: Any, lanes: int) -> Any:
        vector = ir.VectorType(_FLOAT, lanes)
        return self._builder.load(
            self._builder.bitcast(self.pointer(array, at), vector.as_pointer()), align=4
        )

    def store(self, value: Any, array: int, at: Any) -> None:
        into = self._builder.bitcast(self.pointer(array, at), value.type.as_pointer())
        self._builder.store(value, into, align=4)

    def splat(self, array: int, at: Any, lanes: int) -> Any:
        """One number in all lanes."""
        vector = ir.VectorType(_FLOAT, lanes)
        nothing = ir.Constant(vector, ir.Undefined)
        one = self._builder.insert_element(
            nothing, self._builder.load(self.pointer(array, at)), ir.Constant(_INT, 0)
        )
        first = ir.Constant(ir.VectorType(_INT, lanes), [0] * lanes)
        return self._builder.shuffle_vector(one, nothing, first)

    def sum(self, lanes: int, start: Any = None) -> Any:
        """A register to add to; 0 at first if nothing is given."""
        vector = ir.VectorType(_FLOAT, lanes)
        register = cgutils.alloca_once(self._builder, vector)
        self._builder.store(ir.Constant(vector, [0.0] * lanes) if start is None else start, register)
        return register

    def larger(self, x: Any, y: Any) -> Any:
        flags = ("nnan", "nsz")
        return self._builder.select(self._builder.fcmp_ordered(">", x, y, flags=flags), x, y)

    def add_product(self, register: Any, x: Any, y: Any) -> None:
        product = self._builder.fmul(x, y, flags=_FAST)
        self._builder.store(self._builder.fadd(self._builder.load(register), product, flags=_FAST), register)

    def function(self, name: str, result: Any, arguments: list[Any]) -> Any:
        return cgutils.get_or_insert_function(self._builder.module, ir.FunctionType(result, arguments), name)

    def fetch(self, array: int, at: Any, lines: int) -> None:
        """Begin to load lines to the second-level cache; addresses outside an array do no harm."""
        byte = ir.IntType(8).as_pointer()
        prefetch = self.function("llvm.prefetch.p0", ir.VoidType(), [byte, _INT, _INT, _INT])
        read, second_level, data = (ir.Constant(_INT, x) for x in (0, 2, 1))
        for line in range(lines):
            place = self._builder.bitcast(self.pointer(array, self.plus(at, line * _LINE)), byte)
            self._builder.call(prefetch, [place, read, second_level, data])


def _constant(x: Any) -> Any:
    return ir.Constant(_INDEX, x) if isinstance(x, int) else x
