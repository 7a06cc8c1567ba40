"""The numbers in docs/where_time_goes.md are those of the kept results (benchmarks/speed_page.py)."""

from pathlib import Path

import pytest

import speed_page

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "where_time_goes.md").read_text()
TEXTS = speed_page.texts()


@pytest.mark.parametrize("name", TEXTS)
def test_numbers_are_those_that_were_measured(name):
    _, _, rest = PAGE.partition(f"<!-- {name} -->")
    shown, _, _ = rest.partition("<!-- / -->")
    assert shown.strip() == TEXTS[name].strip()
