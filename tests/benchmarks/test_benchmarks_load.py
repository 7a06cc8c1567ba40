"""Every benchmark finds what it imports; most are run by hand only."""

import runpy
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_it_loads(path):
    runpy.run_path(str(path), run_name="loaded")
