"""The results of benchmarks, the pages that cite them, and the scripts that made them belong together."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
RESULTS = {path.name for path in (BENCHMARKS / "results").glob("*.json")}
INDEX = (BENCHMARKS / "README.md").read_text()
PAGES = [ROOT / "README.md", BENCHMARKS / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = [
    path
    for folder in ("tdm_agents", "planners", "envs", "benchmarks", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
# what the package itself writes, or Minari
WRITTEN = {
    "agent",
    "checkpoint",
    "curve",
    "distill",
    "evaluation",
    "index",
    "metadata",
    "model",
    "report",
    "results",
    "rounds",
    "run",
    "verdict",
}
# what scripts import
HELPERS = {
    "deadlines_plot",
    "decision_times",
    "keep",
    "online_returns_plot",
    "other_commit",
    "planner_returns_plot",
}


def test_every_result_is_named_in_the_list_and_every_named_one_is_there():
    # demo.json is also what `make demo` writes elsewhere
    assert set(re.findall(r"`(\w+\.json)`", INDEX)) == RESULTS


def test_every_script_is_in_the_list_with_its_command():
    scripts = {path.stem for path in BENCHMARKS.glob("*.py")} - HELPERS
    assert set(re.findall(r"`python benchmarks/(\w+)\.py", INDEX)) == scripts


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_benchmark_and_result_that_a_page_names_is_there(path):
    text = path.read_text()
    scripts = re.findall(r"benchmarks/[\w/]+\.(?:py|json|md)", text)
    assert not [name for name in scripts if not (ROOT / name).exists()]
    if path.parent.name == "docs":
        named = re.findall(r"`(\w+)\.json`", text)
        assert not [name for name in named if f"{name}.json" not in RESULTS and name not in WRITTEN]


@pytest.mark.parametrize("folder", sorted({path.relative_to(ROOT).parts[0] for path in SOURCES}))
def test_every_benchmark_that_the_code_names_is_there(folder):
    missing = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] == folder
        for name in re.findall(r"``((?:benchmarks|tests)/[\w/]+\.\w+)``", path.read_text())
        if not (ROOT / name).exists()
    ]
    assert not missing
