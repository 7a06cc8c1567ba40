"""The page on reliability shows what was measured, and what was measured broke no promise."""

import json
from pathlib import Path

import pytest

from harm.rows import Row, table

ROOT = Path(__file__).parents[2]
KEPT = json.loads((ROOT / "benchmarks/results/reliability.json").read_text())
ROWS = [Row(**row) for row in KEPT["rows"]]


def test_the_page_shows_the_table():
    assert (ROOT / "docs/reliability.md").read_text().rstrip().endswith(table(ROWS))


def test_all_parts_were_measured_at_one_commit():
    assert len(set(KEPT["measured_at"].values())) == 1


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_no_promise_was_broken(row):
    assert row.times > 0 and not row.failures


@pytest.mark.parametrize("kind", ["train`, mlp", "train`, transformer", "a worker", "the parent", "compare"])
def test_each_kind_of_kill_was_tried_fifty_times(kind):
    (row,) = [row for row in ROWS if row.what.startswith("SIGKILL") and kind in row.what]
    assert row.times >= 50
