"""The body of a walker as a value: a tree of limbs (capsules) that are joined by links (hinges).

At rest every limb is parallel to an axis of the world, and all frames are aligned with the world's. A body
with ``dof`` links has ``dof + 1`` limbs; its first limb, the root, is free and points along +x, the direction
of the task.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Axis = Literal["x", "y", "z"]
Direction = Literal["+x", "-x", "+y", "-y", "+z", "-z"]
Vector = npt.NDArray[np.float64]

AXES: tuple[Axis, ...] = get_args(Axis)
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
ROOT_DIRECTION: Direction = "+x"

_OPPOSITE: dict[Direction, Direction] = {
    "+x": "-x",
    "-x": "+x",
    "+y": "-y",
    "-y": "+y",
    "+z": "-z",
    "-z": "+z",
}
# a quarter turn about +x
_TURN_DIRECTION: dict[Direction, Direction] = {"+y": "+z", "+z": "-y", "-y": "-z", "-z": "+y"}
_TURN_AXIS: dict[Axis, Axis] = {"y": "z", "z": "y"}


@dataclass(frozen=True, slots=True)
class BodyKey:
    """The arguments that a body is generated from, which ``gym.make`` takes.

    Attributes:
        family: ``"line"``, ``"chain"``, ``"bush"`` or ``"tree"``.
        dof: Number of hinges, 4 to 20.
        body: Seed of the body.
    """

    family: str
    dof: int
    body: int

    @property
    def env_id(self) -> str:
        """The Gymnasium id, for ``gym.make(key.env_id, dof=key.dof, body=key.body)``."""
        return f"tdm/Walker{self.family.capitalize()}-v0"

    def __str__(self) -> str:
        return f"{self.family} walker with {self.dof} degrees of freedom, body {self.body}"


@dataclass(frozen=True, slots=True)
class Link:
    """A hinge that carries a limb.

    Attributes:
        direction: Direction of the carried limb at rest.
        axis: Axis of the hinge at rest.
        limb: The carried limb.
    """

    direction: Direction
    axis: Axis
    limb: Limb


@dataclass(frozen=True, slots=True)
class Limb:
    """A capsule and the limbs that it carries.

    Attributes:
        length: Distance between the centres of its caps, in metres.
        radius: Radius in metres.
        links: The hinges on it, at most one per direction.
    """

    length: float
    radius: float
    links: tuple[Link, ...] = ()

    def mount(self, own: Direction, link: Link) -> Vector:
        """The place ``[3]`` of ``link``, relative to the start of this limb, in metres.

        A link straight ahead sits at the tip, all others in the middle.

        Args:
            own: Direction of this limb.
            link: One of :attr:`links`.
        """
        return vector(own) * (self.length if link.direction == own else 0.5 * self.length)


@dataclass(frozen=True, slots=True)
class Body:
    """A complete walker: besides it, only the constants of :mod:`tdm_envs.walkers.spec` enter the physics.

    Attributes:
        key: The arguments that it was generated from.
        strength: Torque limit of the hinges, in units of (weight x mean limb length).
        root: The root limb, with the whole tree.
    """

    key: BodyKey
    strength: float
    root: Limb

    def limbs(self) -> Iterator[Limb]:
        """All limbs, depth first, which is the order of MuJoCo's bodies, hinges and actuators."""
        return _limbs(self.root)

    def structure(self) -> str:
        """The kinematic tree as text, whatever the order in which the links were attached.

        Sizes are left out. ``+x[+xz[+yx[]]]`` is a root that carries a limb straight ahead on a z-hinge,
        which carries one to the left on an x-hinge.
        """
        return ROOT_DIRECTION + _links_text(self.root, turns=0)

    def structure_hash(self) -> str:
        """The name of the tree: SHA-256 of :meth:`structure`, 16 hexadecimal digits."""
        return _short_hash(self.structure())

    def orbit_hash(self) -> str:
        """The name of the tree up to quarter turns about the root: a body on its side counts as the same."""
        return _short_hash(min(ROOT_DIRECTION + _links_text(self.root, turns) for turns in range(4)))

    def fingerprint(self) -> str:
        """The name of the body with all its sizes: equal only if it was rebuilt to the last digit."""
        return _short_hash(repr(asdict(self)))


def vector(direction: Direction) -> Vector:
    """The unit vector ``[3]`` of a direction."""
    unit = np.zeros(3)
    unit["xyz".index(direction[1])] = 1.0 if direction[0] == "+" else -1.0
    return unit


def opposite(direction: Direction) -> Direction:
    """The opposite direction."""
    return _OPPOSITE[direction]


def _limbs(limb: Limb) -> Iterator[Limb]:
    yield limb
    for link in limb.links:
        yield from _limbs(link.limb)


def _links_text(limb: Limb, turns: int) -> str:
    links = []
    for link in limb.links:
        direction, axis = link.direction, link.axis
        for _ in range(turns):
            direction, axis = _TURN_DIRECTION.get(direction, direction), _TURN_AXIS.get(axis, axis)
        links.append(direction + axis + _links_text(link.limb, turns))
    return f"[{''.join(sorted(links))}]"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
