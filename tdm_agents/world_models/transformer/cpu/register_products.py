"""A product of small matrices whose sums stay in registers; see :mod:`.vectors`."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tdm_agents.world_models.transformer.cpu.registers import COLUMNS, LANES, ROWS, Instructions


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def product(
    _: Any,
    a: Any,
    a_at: Any,
    a_row: Any,
    a_step: Any,
    b: Any,
    b_at: Any,
    b_row: Any,
    c: Any,
    c_at: Any,
    c_row: Any,
    depth: Any,
    add: Any,
) -> Any:
    """``c[r, :] (+)= sum_k a[r, k] b[k, :]`` of :data:`ROWS` rows and :data:`COLUMNS` columns.

    Rows of ``a`` are ``a_row`` numbers apart, and numbers of a row ``a_step``; ``add`` is known at compile
    time.
    """
    index, registers = types.int64, COLUMNS // LANES
    signature = types.void(a, index, index, index, b, index, index, c, index, index, index, add)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Instructions(context, builder, signature, args)
        c_rows = [code.plus(args[8], code.times(args[9], r)) for r in range(ROWS)]
        places = [[code.plus(row, x * LANES) for x in range(registers)] for row in c_rows]
        adds = add.literal_value
        sums = [[code.sum(LANES, code.load(7, at, LANES) if adds else None) for at in row] for row in places]
        a_rows = [code.plus(args[1], code.times(args[2], r)) for r in range(ROWS)]
        with cgutils.for_range(builder, args[10]) as loop:
            line = code.plus(args[5], code.times(args[6], loop.index))
            right = [code.load(4, code.plus(line, x * LANES), LANES) for x in range(registers)]
            step = code.times(args[3], loop.index)
            for r in range(ROWS):
                left = code.splat(0, code.plus(a_rows[r], step), LANES)
                for x in range(registers):
                    code.add_product(sums[r][x], left, right[x])
        for r in range(ROWS):
            for into, at in zip(sums[r], places[r], strict=True):
                code.store(builder.load(into), 7, at)
        return context.get_dummy_value()

    return signature, generate
