"""Products for a CPU's vector unit, in LLVM instructions: numba's own loops do not keep sums in registers.

Each intrinsic is a loop over pointers into arrays whose shape it does not check; offsets and distances count
numbers. The amount that is kept in registers is known at compile time.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tdm_agents.world_models.transformer.cpu.registers import (
    FAST,
    FETCHED,
    FLOAT,
    INDEX,
    INT,
    LANES,
    LINE,
    ORDER,
    Instructions,
    lanes_of,
)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def as_float(_: Any, bits: Any) -> Any:
    """The float32 of these int32 bits."""
    return types.float32(types.int32), lambda context, builder, signature, args: builder.bitcast(
        args[0], FLOAT
    )


@intrinsic  # type: ignore[untyped-decorator]
def as_bits(_: Any, number: Any) -> Any:
    """The int32 bits of a float32."""
    return types.int32(types.float32), lambda context, builder, signature, args: builder.bitcast(args[0], INT)


@intrinsic  # type: ignore[untyped-decorator]
def pointer(_: Any, address: Any) -> Any:
    """The pointer to an int64 address."""
    byte = ir.IntType(8).as_pointer()
    return types.voidptr(types.int64), lambda context, builder, signature, args: builder.inttoptr(
        args[0], byte
    )


@intrinsic  # type: ignore[untyped-decorator]
def call(_: Any, address: Any) -> Any:
    """Call the C function at an address, which takes no arguments and returns an int."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = builder.inttoptr(args[0], ir.FunctionType(INT, []).as_pointer())
        return builder.sext(builder.call(function, []), INDEX)

    return types.int64(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def call_with(_: Any, address: Any, argument: Any) -> Any:
    """Call the C function at an address, which takes another address and returns nothing."""
    byte = ir.IntType(8).as_pointer()

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = builder.inttoptr(args[0], ir.FunctionType(ir.VoidType(), [byte]).as_pointer())
        builder.call(function, [builder.inttoptr(args[1], byte)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


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
    """``c[r, :] (+)= sum_k a[r, k] b[k, :]``; ``rows``, ``columns`` and ``add`` are known at compile time.

    Meanwhile :data:`FETCHED` numbers of ``soon`` are fetched for each ``k``, ``soon_step`` apart.
    """
    lanes = lanes_of(columns.literal_value)
    count, registers = rows.literal_value, columns.literal_value // lanes
    index = types.int64
    signature = types.void(
        a, index, index, b, index, index, c, index, index, index, soon, index, index, rows, columns, add
    )

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Instructions(context, builder, signature, args)
        c_rows = [code.plus(args[7], code.times(args[8], r)) for r in range(count)]
        places = [[code.plus(row, x * lanes) for x in range(registers)] for row in c_rows]
        adds = add.literal_value
        sums = [[code.sum(lanes, code.load(6, at, lanes) if adds else None) for at in row] for row in places]
        with cgutils.for_range(builder, args[9]) as loop:
            code.fetch(10, code.plus(args[11], code.times(args[12], loop.index)), FETCHED // LINE)
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
    """``scores[h, j] = query[h] . keys[j, h]`` for ``count`` tokens; fetches those ``ahead``."""
    number, size = heads.literal_value, head_dim.literal_value
    lanes, index = lanes_of(size), types.int64
    signature = types.void(query, index, keys, index, index, scores, index, index, index, heads, head_dim)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Instructions(context, builder, signature, args)
        vector = ir.VectorType(FLOAT, lanes)
        total = code.function(f"llvm.vector.reduce.fadd.v{lanes}f32", FLOAT, [FLOAT, vector])
        parts = range(0, size, lanes)
        asked = [
            [code.load(0, code.plus(args[1], h * size + x), lanes) for x in parts] for h in range(number)
        ]
        with cgutils.for_range(builder, args[4]) as loop:
            token = code.plus(args[3], code.times(loop.index, number * size))
            code.fetch(2, code.plus(token, args[8]), -(-number * size // LINE))
            for h in range(number):
                sums = code.sum(lanes)
                for part, x in zip(asked[h], parts, strict=True):
                    code.add_product(sums, part, code.load(2, code.plus(token, h * size + x), lanes))
                dot = builder.call(total, [ir.Constant(FLOAT, 0.0), builder.load(sums)], fastmath=FAST)
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
    """``out[h] += sum_j weights[h, j] values[j, h]`` over ``count`` tokens; fetches those ``ahead``."""
    number, size = heads.literal_value, head_dim.literal_value
    lanes, index = lanes_of(size), types.int64
    signature = types.void(weights, index, index, values, index, index, out, index, index, heads, head_dim)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Instructions(context, builder, signature, args)
        parts = range(0, size, lanes)
        places = [[code.plus(args[7], h * size + x) for x in parts] for h in range(number)]
        sums = [[code.sum(lanes, code.load(6, at, lanes)) for at in row] for row in places]
        with cgutils.for_range(builder, args[5]) as loop:
            token = code.plus(args[4], code.times(loop.index, number * size))
            code.fetch(3, code.plus(token, args[8]), -(-number * size // LINE))
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
    """The largest of the first ``count`` numbers; -inf if there are none."""
    signature = types.float32(x, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Instructions(context, builder, signature, args)
        at_once = 4 * LANES
        vector = ir.VectorType(FLOAT, LANES)
        least = ir.Constant(vector, [float("-inf")] * LANES)
        found = [code.sum(LANES, least) for _ in range(4)]
        size = ir.Constant(INDEX, at_once)
        with cgutils.for_range(builder, builder.udiv(args[1], size)) as loop:
            for x, into in enumerate(found):
                part = code.load(0, code.plus(code.times(loop.index, at_once), x * LANES), LANES)
                builder.store(code.larger(builder.load(into), part), into)
        one, two, three, four = (builder.load(x) for x in found)
        both = code.larger(code.larger(one, two), code.larger(three, four))
        reduce = code.function(f"llvm.vector.reduce.fmax.v{LANES}f32", FLOAT, [vector])
        most = cgutils.alloca_once(builder, FLOAT)
        builder.store(builder.call(reduce, [both], fastmath=ORDER), most)
        rest = builder.urem(args[1], size)
        with cgutils.for_range(builder, rest) as loop:
            number = builder.load(code.pointer(0, builder.add(builder.sub(args[1], rest), loop.index)))
            builder.store(code.larger(builder.load(most), number), most)
        return builder.load(most)

    return signature, generate
