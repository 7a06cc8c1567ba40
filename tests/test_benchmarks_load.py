"""Every benchmark finds what it imports; most are run by hand only."""

import runpy
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parent.parent / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_it_loads(path, monkeypatch):
    monkeypatch.syspath_prepend(path.parent)  # as when it is run: some share pieces
    runpy.run_path(str(path), run_name="loaded")
