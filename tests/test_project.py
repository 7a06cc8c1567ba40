"""What the files of the project say of its version, Pythons and commands agrees."""

import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import markdown_pages
import pytest
from packaging.specifiers import SpecifierSet

import tdm_agents
from tdm_envs.without_dm_control import LAST_WITH_WHEELS, WITHOUT_LABMAZE

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
TEXTS = {name: (ROOT / name).read_text() for name in ("CHANGELOG.md", "CONTRIBUTING.md")}
INSTALLING = (ROOT / "docs/installing.md").read_text()


def test_the_version_has_one_place():
    assert "version" in PROJECT["dynamic"] and "version" not in PROJECT
    assert tdm_agents.__version__ == version("tdm-agents")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == tdm_agents.__version__
    assert f"\n## {tdm_agents.__version__}" in TEXTS["CHANGELOG.md"]


def test_the_citation_has_what_the_format_requires():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["license"] == PROJECT["license"]


def test_the_workflow_runs_on_each_python_and_on_linux_and_macos():
    matrix = WORKFLOW["jobs"]["newest"]["strategy"]["matrix"]
    assert matrix["python"] == PYTHONS
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos"}
    allowed = SpecifierSet(PROJECT["requires-python"])
    minors = [f"3.{minor}" for minor in range(8, 20)]
    assert [python for python in minors if python in allowed] == PYTHONS


def test_the_suite_is_installed_in_the_same_way_wherever_it_is_told():
    steps = WORKFLOW["jobs"]["newest"]["steps"]
    (by_hand,) = [step for step in steps if "--no-deps" in step.get("run", "")]
    assert by_hand["run"].split("\n")[:2] == list(WITHOUT_LABMAZE)
    later = [python for python in PYTHONS if tuple(map(int, python.split("."))) > LAST_WITH_WHEELS]
    assert re.findall(r"'([\d.]+)'", by_hand["if"]) == later
    assert "\n".join(WITHOUT_LABMAZE) in INSTALLING


def test_every_python_and_extra_has_a_row_in_the_page():
    rows = re.findall(r"^\| `?([\w.]+)`? \|", INSTALLING, re.MULTILINE)
    assert set(PYTHONS) <= set(rows)
    assert set(PROJECT["optional-dependencies"]) - {"release"} <= set(rows)


def test_ruff_is_the_pinned_one_in_the_hooks():
    (pin,) = re.findall(r"^ruff==.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["additional_dependencies"] for hook in local["hooks"]] == [[pin], [pin]]


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda p: p.stem
)
def test_a_form_for_issues_asks_for_something(path):
    form = yaml.safe_load(path.read_text())
    if path.stem != "config":
        assert {"name", "description", "body"} <= set(form)
        assert any(part.get("validations", {}).get("required") for part in form["body"])


@pytest.mark.parametrize("name", TEXTS)
def test_links_files_and_targets_that_are_named_exist(name):
    text = TEXTS[name]
    named = re.findall(r"`((?:tdm_agents|planners|tests|website|docs|benchmarks|\.github)/[\w./-]+)`", text)
    paths = [path for path in named if "NAME" not in path] + markdown_pages.linked_files(text)
    assert not [path for path in paths if not (ROOT / path).exists()]
    targets = {word for words in re.findall(r"`make ([\w-]+)`", text) for word in words.split()}
    targets |= {words[1] for words in markdown_pages.commands(text, "make")}
    for target in targets:
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
