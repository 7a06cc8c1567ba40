"""The times in docs/where_time_goes.md are those of the kept results."""

import json
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "where_time_goes.md").read_text()
RESULTS = ROOT / "benchmarks" / "results"
WHO = {
    "the package, one scalar after another": "sequential",
    "the package, scalars together in 4.5 rounds": "parallel",
    "a cache a candidate, copied": "copied cache",
    "a cache a candidate, grown by concatenation": "grown cache",
    "a Llama of `transformers`, its own cache": "transformers",
    "no cache": "no cache",
}


def cell(history, name):
    """What the page says of one contestant."""
    rows = json.loads((RESULTS / "planning_speed.json").read_text())["rows"]
    contestants = rows[f"table/history-{history}/float32"]["contestants"]
    if name not in contestants:
        return ""
    found = contestants[name]
    seconds = median(found["seconds"])
    if name == "sequential":
        return f"{seconds:.2f} s, {100 * found['of_roofline']:.0f} % of the roofline"
    longer = seconds / median(contestants["sequential"]["seconds"])
    return f"{'' if found['whole'] else 'more than '}{seconds:.2f} s, {longer:.1f} times as long"


@pytest.mark.parametrize("who", WHO)
def test_times_are_those_that_were_measured(who):
    assert f"| {who} | {cell(10, WHO[who])} | {cell(118, WHO[who])} |" in PAGE


def test_gaps_and_compiled_blocks_are_those_that_were_measured():
    rows = json.loads((RESULTS / "packed_suffix.json").read_text())["rows"]
    ratios = [row["over_packed"]["4"] for row in rows]
    assert f"take {min(ratios):.1f} to {max(ratios):.1f} times as long to read" in PAGE
    rows = json.loads((RESULTS / "compiled_blocks.json").read_text())["rows"].values()
    short, long = (row["eager_over_compiled"] for row in rows)
    assert f"a decision is {short:.2f} and {long:.2f} times as fast" in PAGE
