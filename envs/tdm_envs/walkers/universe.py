"""The choice of bodies: distinct trees, and a split into train and test that never changes.

The split belongs to the tree, not to a list: the hash of a body's tree, up to quarter turns about the root,
decides whether it is a test body. Two bodies with the same tree but other sizes, of whatever family, are on
the same side.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from tdm_envs.mistakes import EnvsValueError
from tdm_envs.walkers.body import Body, BodyKey
from tdm_envs.walkers.families import FAMILIES, MAX_DOF, MIN_DOF, build_body, checked_int, checked_key

Split = Literal["train", "test", "all"]

_TEST_SHARE = 10  # one tree in ten
_SEEDS = 2**32  # bodies are numbered below this
_PATIENCE = 30  # longest run of draws without a new tree, in units of the trees already seen


class ExhaustedError(EnvsValueError):
    """More bodies were asked for than there are distinct trees."""


def split_of(body: Body) -> Literal["train", "test"]:
    """The side of the split that a body's tree is on, in this and every later version."""
    return "test" if int(body.orbit_hash(), 16) % _TEST_SHARE == 0 else "train"


def sample_bodies(
    family: str,
    count: int,
    split: Split,
    seed: int,
    *,
    dof: int | tuple[int, int] = (MIN_DOF, MAX_DOF),
) -> list[BodyKey]:
    """``count`` bodies, no two with the same tree.

    Args:
        family: ``"line"``, ``"chain"``, ``"bush"`` or ``"tree"``.
        count: Number of bodies.
        split: ``"train"``, ``"test"`` or ``"all"``.
        seed: Seed of the choice, not negative; other seeds choose other bodies from the same side.
        dof: Number of hinges, or its lowest and highest value, between which each body's is drawn
            uniformly.

    Raises:
        ExhaustedError: If there are fewer distinct trees; the message says how many there are. (LINE with 4
            links has 81.)
        ValueError: If an argument is out of its range.
        TypeError: If ``dof`` or ``seed`` is not an integer.
    """
    low, high = (dof, dof) if not isinstance(dof, tuple) else dof
    low, high = (checked_int("dof", number, MIN_DOF, MAX_DOF) for number in (low, high))
    if low > high:
        raise EnvsValueError(f"dof is {dof}; expected the lowest before the highest")
    count, seed = checked_int("count", count, 1), checked_int("seed", seed, 0)
    if split not in get_args(Split):
        raise EnvsValueError(f"split is {split!r}; expected one of {', '.join(get_args(Split))}")
    checked_key(family, low, 0)  # checks the family

    rng = np.random.default_rng([list(FAMILIES).index(family), seed])
    chosen: list[BodyKey] = []
    seen: set[str] = set()
    fruitless = 0
    while len(chosen) < count:
        body = build_body(family, int(rng.integers(low, high + 1)), int(rng.integers(_SEEDS)))
        tree = body.structure()
        if tree not in seen:
            fruitless = 0
            seen.add(tree)
            if split in ("all", split_of(body)):
                chosen.append(body.key)
            continue
        fruitless += 1
        # with S equally likely trees, one is missed by 30 S draws with probability e^-30
        if fruitless > _PATIENCE * (len(seen) + 1):
            sizes = f"{low}" if low == high else f"{low} to {high}"
            raise ExhaustedError(
                f"{count} bodies were asked for, but {family!r} with {sizes} degrees of freedom has only "
                f"{len(chosen)} distinct trees in the split {split!r} ({len(seen)} in all); ask for fewer, "
                "or for more degrees of freedom"
            )
    return chosen
