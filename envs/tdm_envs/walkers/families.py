"""The four families of section 4.3.2, and the growth of their bodies.

All random numbers come from one ``numpy.random.Generator`` seeded by (family, dof, body); the tree is drawn
before the sizes. There are six directions, those of the world at rest. No link points back into the limb that
carries it, and no two links of a limb point the same way, so a limb has room for five.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from tdm_envs.mistakes import EnvsTypeError, EnvsValueError
from tdm_envs.walkers.body import (
    AXES,
    DIRECTIONS,
    ROOT_DIRECTION,
    Axis,
    Body,
    BodyKey,
    Direction,
    Limb,
    Link,
    opposite,
)

T = TypeVar("T")

MIN_DOF = 4
MAX_DOF = 20

LENGTH = (0.2, 0.4)
"""Range of limb lengths in metres; drawn uniformly."""
RADIUS = (0.04, 0.06)
"""Range of limb radii in metres; drawn uniformly."""
STRENGTH = (0.6, 0.9)
"""Range of torque limits in units of (weight x mean limb length); drawn uniformly."""


class Sketch:
    """A growing tree: limbs by number, without sizes; limb 0 is the root."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.directions: list[Direction] = [ROOT_DIRECTION]
        self.links: list[list[tuple[Direction, Axis, int]]] = [[]]

    @property
    def dof(self) -> int:
        """The number of links so far."""
        return len(self.directions) - 1

    def free(self, limb: int) -> list[Direction]:
        """The directions in which ``limb`` can still carry a link."""
        taken = {opposite(self.directions[limb]), *(direction for direction, _, _ in self.links[limb])}
        return [direction for direction in DIRECTIONS if direction not in taken]

    def attach(self, limb: int, direction: Direction) -> None:
        """Add a link and its limb, with the next number; the hinge's axis is uniform over x, y and z."""
        axis = AXES[self.rng.integers(len(AXES))]
        self.links[limb].append((direction, axis, len(self.directions)))
        self.directions.append(direction)
        self.links.append([])

    def limb(self, number: int = 0) -> Limb:
        """The limb with everything that it carries, with sizes drawn depth first."""
        # rounded to the digits that MuJoCo's XML keeps, so that a saved file is the same body
        length = round(float(self.rng.uniform(*LENGTH)), 4)
        radius = round(float(self.rng.uniform(*RADIUS)), 4)
        links = sorted(self.links[number])
        return Limb(length, radius, tuple(Link(way, axis, self.limb(next_)) for way, axis, next_ in links))


def _line(sketch: Sketch, dof: int) -> None:
    """Attach each link at the end of the last limb: a straight snake, whose axes alone differ."""
    for limb in range(dof):
        sketch.attach(limb, sketch.directions[limb])


def _chain(sketch: Sketch, dof: int) -> None:
    """Attach each link to the last limb, in any of the five directions.

    Its inner limbs carry two links, one towards each end; its first and last carry one.
    """
    for limb in range(dof):
        sketch.attach(limb, _pick(sketch, sketch.free(limb)))


def _bush(sketch: Sketch, dof: int) -> None:
    """Attach several links, here two to five, to each limb; a limb is filled before the limbs it carries."""
    limb = 0
    while sketch.dof < dof:
        for _ in range(min(int(sketch.rng.integers(2, 6)), dof - sketch.dof)):
            sketch.attach(limb, _pick(sketch, sketch.free(limb)))
        limb += 1


def _tree(sketch: Sketch, dof: int) -> None:
    """Attach each link to any limb with room, in any free direction, both drawn uniformly."""
    while sketch.dof < dof:
        limb = _pick(sketch, [limb for limb in range(sketch.dof + 1) if len(sketch.links[limb]) < 5])
        sketch.attach(limb, _pick(sketch, sketch.free(limb)))


# the order is part of the seed
FAMILIES: dict[str, Callable[[Sketch, int], None]] = {
    "line": _line,
    "chain": _chain,
    "bush": _bush,
    "tree": _tree,
}


def build_body(family: str, dof: int, body: int) -> Body:
    """Grow a body, the same one everywhere for the same arguments.

    Args:
        family: One of :data:`FAMILIES`.
        dof: Number of hinges, :data:`MIN_DOF` to :data:`MAX_DOF`.
        body: Seed of the body, not negative.

    Raises:
        ValueError: If an argument is out of its range.
        TypeError: If ``dof`` or ``body`` is not an integer.
    """
    key = checked_key(family, dof, body)
    rng = np.random.default_rng([list(FAMILIES).index(key.family), key.dof, key.body])
    sketch = Sketch(rng)
    FAMILIES[key.family](sketch, key.dof)
    root = sketch.limb()
    return Body(key, strength=round(float(rng.uniform(*STRENGTH)), 4), root=root)


def checked_key(family: str, dof: int, body: int) -> BodyKey:
    """A key with plain, checked values.

    Raises:
        ValueError: As in :func:`build_body`.
        TypeError: As in :func:`build_body`.
    """
    if family not in FAMILIES:
        raise EnvsValueError(f"family is {family!r}; expected one of {', '.join(FAMILIES)}")
    return BodyKey(family, checked_int("dof", dof, MIN_DOF, MAX_DOF), checked_int("body", body, 0))


def checked_int(name: str, value: Any, low: int, high: int | None = None) -> int:
    """``value`` as a plain integer from ``low`` to ``high`` (None: no limit).

    Raises:
        ValueError: If it is out of this range; the message calls it ``name``.
        TypeError: If it is not an integer.
    """
    wanted = f"an integer from {low} to {high}" if high is not None else f"an integer of at least {low}"
    try:
        number = operator.index(value)
    except TypeError as error:
        raise EnvsTypeError(f"{name} is {value!r}; expected {wanted}") from error
    if number < low or (high is not None and number > high):
        raise EnvsValueError(f"{name} is {number}; expected {wanted}")
    return number


def _pick(sketch: Sketch, options: list[T]) -> T:
    return options[int(sketch.rng.integers(len(options)))]
