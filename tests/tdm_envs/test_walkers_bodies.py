"""What bodies are made of, that each family keeps to its rule, and that they come out the same everywhere."""

from __future__ import annotations

import dataclasses
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdm_envs.walkers.body import ROOT_DIRECTION, Body, Limb, Link, opposite
from tdm_envs.walkers.families import FAMILIES, LENGTH, RADIUS, STRENGTH, build_body

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(4, 20)
bodies = st.builds(build_body, st.sampled_from(sorted(FAMILIES)), sizes, seeds)


def links_with_carriers(body):
    """(direction of the carrying limb, carrying limb, link) for every link."""
    queue = deque([(ROOT_DIRECTION, body.root)])
    while queue:
        own, limb = queue.popleft()
        for link in limb.links:
            yield own, limb, link
            queue.append((link.direction, link.limb))


def rearranged(limb, change):
    """The same tree with ``change`` applied to every limb's links."""
    links = [dataclasses.replace(link, limb=rearranged(link.limb, change)) for link in limb.links]
    return dataclasses.replace(limb, links=tuple(change(links)))


def quarter_turn(links):
    directions = {"+y": "+z", "+z": "-y", "-y": "-z", "-z": "+y"}
    axes = {"y": "z", "z": "y"}
    return [
        dataclasses.replace(
            link,
            direction=directions.get(link.direction, link.direction),
            axis=axes.get(link.axis, link.axis),
        )
        for link in links
    ]


@settings(max_examples=60, deadline=None)
@given(bodies)
def test_a_body_has_one_limb_more_than_hinges_and_sizes_in_their_ranges(body):
    limbs = list(body.limbs())
    assert len(limbs) == body.key.dof + 1
    assert all(LENGTH[0] <= limb.length <= LENGTH[1] for limb in limbs)
    assert all(RADIUS[0] <= limb.radius <= RADIUS[1] for limb in limbs)
    assert STRENGTH[0] <= body.strength <= STRENGTH[1]


@settings(max_examples=60, deadline=None)
@given(bodies)
def test_no_link_points_back_or_shares_its_direction_with_another_of_its_limb(body):
    for own, limb, link in links_with_carriers(body):
        assert link.direction != opposite(own)
        assert [other.direction for other in limb.links].count(link.direction) == 1


@settings(max_examples=20, deadline=None)
@given(sizes, seeds)
def test_a_line_is_straight(dof, seed):
    body = build_body("line", dof, seed)
    assert all(link.direction == "+x" and len(limb.links) == 1 for _, limb, link in links_with_carriers(body))


@settings(max_examples=20, deadline=None)
@given(sizes, seeds)
def test_a_chain_is_a_path(dof, seed):
    counts = [len(limb.links) for limb in build_body("chain", dof, seed).limbs()]
    assert counts == [1] * dof + [0]


@settings(max_examples=40, deadline=None)
@given(sizes, seeds)
def test_limbs_of_a_bush_carry_several_but_for_the_last_that_was_filled(dof, seed):
    counts = [len(limb.links) for limb in build_body("bush", dof, seed).limbs()]
    carrying = [count for count in counts if count]
    assert max(counts) <= 5
    assert sum(count == 1 for count in carrying) <= 1


@settings(max_examples=40, deadline=None)
@given(sizes, seeds)
def test_a_limb_of_a_bush_is_filled_before_the_limbs_that_it_carries(dof, seed):
    levels = [[build_body("bush", dof, seed).root]]
    while levels[-1]:
        levels.append([link.limb for limb in levels[-1] for link in limb.links])
    widest_unfinished = next(i for i, level in enumerate(levels) if any(not limb.links for limb in level))
    # from the first level with an empty limb on, nothing is carried below the next
    assert all(not limb.links for level in levels[widest_unfinished + 1 :] for limb in level)


def test_trees_branch_anywhere_and_every_family_reaches_all_axes_and_its_directions():
    seen = {family: set() for family in FAMILIES}
    axes = set()
    for family in FAMILIES:
        for seed in range(20):
            for _, _, link in links_with_carriers(build_body(family, 12, seed)):
                seen[family].add(link.direction)
                axes.add((family, link.axis))
    assert seen["line"] == {"+x"}
    assert len(seen["chain"]) == len(seen["tree"]) == 6
    assert len(axes) == 12
    branching = [max(len(limb.links) for limb in build_body("tree", 12, s).limbs()) for s in range(20)]
    assert min(branching) >= 2 or max(branching) >= 3


@settings(max_examples=30, deadline=None)
@given(bodies, st.randoms(use_true_random=False))
def test_the_hash_of_a_tree_does_not_depend_on_the_order_of_links_or_on_sizes(body, random):
    def shuffled(links):
        random.shuffle(links)
        return [dataclasses.replace(link, limb=dataclasses.replace(link.limb, length=0.3)) for link in links]

    other = dataclasses.replace(body, root=rearranged(body.root, shuffled))
    assert other.structure() == body.structure()
    assert other.structure_hash() == body.structure_hash()
    assert other.fingerprint() != body.fingerprint()


@settings(max_examples=30, deadline=None)
@given(bodies, st.integers(1, 3))
def test_a_body_laid_on_another_side_has_the_same_orbit(body, turns):
    root = body.root
    for _ in range(turns):
        root = rearranged(root, quarter_turn)
    assert dataclasses.replace(body, root=root).orbit_hash() == body.orbit_hash()


def test_the_tree_as_text():
    tip = Limb(0.3, 0.05)
    middle = Limb(0.3, 0.05, (Link("+y", "x", tip), Link("+x", "y", tip)))
    body = Body(build_body("tree", 4, 0).key, 0.7, Limb(0.2, 0.05, (Link("+x", "z", middle),)))
    assert body.structure() == "+x[+xz[+xy[]+yx[]]]"


# Data sets, splits and manifests name bodies by their seed: these values must never change.
GOLDEN = {
    "line": ("7a5975c4e368b7c7", "34c69039711e62df"),
    "chain": ("2edde56c77a700dd", "54c62b11a2dd09a8"),
    "bush": ("505e8e96edb548a0", "a3cd4976377cf522"),
    "tree": ("6b3389ff5751c217", "6d2d6af601c68518"),
}


@pytest.mark.parametrize("family", GOLDEN)
def test_bodies_are_the_same_on_every_machine_and_in_every_version(family):
    body = build_body(family, 9, 5)
    assert (body.fingerprint(), body.structure_hash()) == GOLDEN[family]


def test_a_seed_may_be_a_numpy_integer():
    assert build_body("tree", np.int64(7), np.uint32(3)) == build_body("tree", 7, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("lines", 5, 0), ValueError, "family is 'lines'; expected one of line, chain, bush, tree"),
        (("line", 3, 0), ValueError, "dof is 3; expected an integer from 4 to 20"),
        (("line", 21, 0), ValueError, "dof is 21"),
        (("line", 5.5, 0), TypeError, "dof is 5.5; expected an integer from 4 to 20"),
        (("line", 5, -1), ValueError, "body is -1; expected an integer of at least 0"),
        (("line", 5, "7"), TypeError, "body is '7'"),
    ],
)
def test_errors_name_the_value_and_what_was_expected(arguments, error, message):
    with pytest.raises(error, match=message):
        build_body(*arguments)
