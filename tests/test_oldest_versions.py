"""What pyproject.toml declares as the oldest versions is what `make test-floors` installs."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
DECLARED = [
    Requirement(line)
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
]
PINNED = {
    pin.name: Version(next(iter(pin.specifier)).version)
    for line in (ROOT / "constraints-oldest.txt").read_text().splitlines()
    if line and not line.startswith("#")
    for pin in [Requirement(line)]
}


@pytest.mark.parametrize("requirement", DECLARED, ids=lambda requirement: requirement.name)
def test_the_oldest_version_is_the_one_that_is_tested(requirement):
    (oldest,) = [Version(one.version) for one in requirement.specifier if one.operator == ">="]
    assert PINNED[requirement.name] == oldest
