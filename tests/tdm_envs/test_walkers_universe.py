"""Sampling of bodies: distinct trees, a split that nothing crosses, manifests that rebuild or complain."""

from __future__ import annotations

import errno
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdm_envs.walkers import (
    FAMILIES,
    BodyKey,
    ExhaustedError,
    ManifestError,
    build_body,
    read_manifest,
    sample_bodies,
    split_of,
    write_manifest,
)


def built(keys):
    return [build_body(key.family, key.dof, key.body) for key in keys]


def trees(keys):
    return {body.structure() for body in built(keys)}


def test_lines_with_four_links_are_81_and_no_more():
    assert len(trees(sample_bodies("line", 81, "all", 0, dof=4))) == 81
    with pytest.raises(ExhaustedError, match=r"82 bodies were asked for, but 'line' with 4 .* only 81 "):
        sample_bodies("line", 82, "all", 0, dof=4)


def test_train_and_test_share_no_body_and_miss_none():
    everything = trees(sample_bodies("line", 81, "all", 0, dof=4))
    test = [b for b in built(sample_bodies("line", 81, "all", 1, dof=4)) if split_of(b) == "test"]
    train = trees(sample_bodies("line", 81 - len(test), "train", 2, dof=4))
    assert train | {b.structure() for b in test} == everything
    assert trees(sample_bodies("line", len(test), "test", 3, dof=4)) == {b.structure() for b in test}
    with pytest.raises(ExhaustedError, match="split 'test'"):
        sample_bodies("line", len(test) + 1, "test", 3, dof=4)


@pytest.mark.parametrize("family", FAMILIES)
def test_bodies_are_distinct_on_their_side_of_the_split_and_of_all_sizes(family):
    keys = sample_bodies(family, 60, "test", 7)
    assert all(split_of(body) == "test" for body in built(keys))
    assert len(trees(keys)) == 60
    assert {key.family for key in keys} == {family}
    assert min(k.dof for k in keys) < 8 and max(k.dof for k in keys) > 16


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(sorted(FAMILIES)), st.integers(0, 1000), st.integers(4, 20))
def test_the_same_seed_chooses_the_same_bodies_and_more_of_them_begin_with_the_fewer(family, seed, dof):
    keys = sample_bodies(family, 6, "train", seed, dof=dof)
    assert keys == sample_bodies(family, 10, "train", seed, dof=dof)[:6]
    assert keys != sample_bodies(family, 6, "train", seed + 1, dof=dof)


def test_about_a_tenth_of_all_trees_is_test():
    sides = [split_of(build_body("tree", 10, seed)) for seed in range(1000)]
    assert 0.07 < sides.count("test") / 1000 < 0.13


# the second letter of "train" or "test", for the seeds 0 to 23 of each family
GOLDEN_SIDES = [
    "rrerrerrrrrrerrrrrrrrrrr",
    "rrrrrrrrrrrrrrererererrr",
    "rrrrrrrrrrrrrrrrrrrerrrr",
    "rrrrrrrrrrrrerrrrerrrrer",
]


def test_the_split_is_the_same_in_every_version():
    sides = ["".join(split_of(build_body(f, 6, s))[1] for s in range(24)) for f in FAMILIES]
    assert sides == GOLDEN_SIDES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "snake"}, "family is 'snake'"),
        ({"count": 0}, "count is 0; expected an integer of at least 1"),
        ({"split": "valid"}, "split is 'valid'; expected one of train, test, all"),
        ({"dof": 3}, "dof is 3"),
        ({"dof": (9, 5)}, "expected the lowest before the highest"),
        ({"seed": -1}, "seed is -1; expected an integer of at least 0"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    arguments = {"family": "line", "count": 3, "split": "train", "seed": 0, **change}
    with pytest.raises(ValueError, match=message):
        sample_bodies(**arguments)


def test_a_manifest_rebuilds_what_was_written(tmp_path):
    keys = sample_bodies("bush", 5, "train", 0) + sample_bodies("line", 3, "test", 0)
    written = write_manifest(tmp_path / "deep" / "bodies.json", keys)
    assert read_manifest(tmp_path / "deep" / "bodies.json") == written
    assert written.bodies == tuple(keys)
    assert written.splits == ("train",) * 5 + ("test",) * 3


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "bodies.json"
    write_manifest(path, [BodyKey("line", 5, 1), BodyKey("tree", 9, 2)])
    return path


def test_a_manifest_that_was_edited_is_refused(manifest):
    manifest.write_text(manifest.read_text().replace('"body": 2', '"body": 3'))
    with pytest.raises(ManifestError, match=r"bodies\.json was changed after it was written"):
        read_manifest(manifest)


def test_a_manifest_of_another_generator_is_refused(manifest, monkeypatch):
    monkeypatch.setattr("tdm_envs.walkers.families.LENGTH", (0.5, 0.6))
    with pytest.raises(
        ManifestError, match="line walker with 5 degrees of freedom, body 1 comes out differently"
    ):
        read_manifest(manifest)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "has schema 'list'"),
        (json.dumps({"schema": 99}), "has schema 99; this version reads 1"),
        (json.dumps({"schema": 1}), 'has no list "bodies", so it is no manifest of bodies'),
        (json.dumps({"schema": 1, "bodies": []}), "was changed after it was written"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path, text, message):
    path = tmp_path / "bodies.json"
    path.write_text(text)
    with pytest.raises(ManifestError, match=message):
        read_manifest(path)


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(ManifestError, match=r"absent\.json does not exist"):
        read_manifest(tmp_path / "absent.json")


def test_a_full_disk_leaves_what_was_there(manifest, monkeypatch):
    before = manifest.read_text()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_manifest(manifest, [BodyKey("line", 6, 0)])
    assert manifest.read_text() == before
    assert [p.name for p in manifest.parent.iterdir()] == ["bodies.json"]


def test_a_body_that_is_listed_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="listed twice: line walker with 5 degrees of freedom, body 1"):
        write_manifest(tmp_path / "bodies.json", [BodyKey("line", 5, 1)] * 2)
    with pytest.raises(ValueError, match="no bodies"):
        write_manifest(tmp_path / "bodies.json", [])
