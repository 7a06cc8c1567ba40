"""Imports run one way: from higher floors to lower ones, never back and never around."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {"tdm_agents": ROOT, "tdm_planners": ROOT / "planners", "tdm_envs": ROOT / "envs"}

FLOORS = (
    (
        "tdm_agents.errors",
        "tdm_agents.json_text",
        "tdm_agents.remarks",
        "tdm_agents.typed_modules",
        "tdm_agents.update_settings",
    ),
    ("tdm_envs", "tdm_agents.protocols"),
    ("tdm_agents.registry", "tdm_agents.storage", "tdm_agents.guard", "tdm_planners"),
    (
        "tdm_agents.spaces",
        "tdm_agents.environments",
        "tdm_agents.env_checks",
        "tdm_agents.settings_text",
        "tdm_agents.plot_style",
    ),
    ("tdm_agents.data",),
    ("tdm_agents.world_models",),
    ("tdm_agents.wrappers",),
    ("tdm_agents.agent",),
    ("tdm_agents.testing",),
    ("tdm_agents.actors",),
    ("tdm_agents.evaluation",),
    ("tdm_agents.collection", "tdm_agents.comparison"),
    ("tdm_agents.experts",),
    ("tdm_agents.training",),
    ("tdm_agents.online",),
    ("tdm_agents.distillation",),
    ("tdm_agents.view", "tdm_agents.serving"),
    # studies run the commands themselves, and a command runs studies
    ("tdm_agents.studies", "tdm_agents.cli", "tdm_agents.__main__"),
)
"""From the ground up. What stands on one floor may import each other, but not in a circle."""
APART = {"tdm_envs": "tdm_agents", "tdm_planners": "tdm_envs"}
"""The first imports nothing of the second, whatever the floors."""


def modules() -> dict[str, Path]:
    found = {}
    for name, source in SOURCES.items():
        for path in (source / name).rglob("*.py"):
            parts = path.relative_to(source).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()
FACES = {"tdm_agents"}
"""Packages that hand names on when they are asked for, from whatever floor."""


def imported(module: str, path: Path) -> Iterator[str]:
    """Every module of ours that a module imports, at its top, in a function or for the type checker."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{module} imports by a relative name"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


GRAPH = {
    module: {name for name in imported(module, path) if name in MODULES and name != module}
    for module, path in MODULES.items()
    if module not in FACES
}


def floor_of(module: str) -> int:
    for level, places in enumerate(FLOORS):
        if any(module == place or module.startswith(f"{place}.") for place in places):
            return level
    raise AssertionError(f"{module} stands on no floor; add its place to FLOORS")


@pytest.mark.parametrize("module", GRAPH)
def test_nothing_climbs(module):
    level = floor_of(module)
    for name in GRAPH[module]:
        assert name in FACES or floor_of(name) <= level, f"{module} (floor {level}) climbs to {name}"


@pytest.mark.parametrize("first", APART)
def test_these_do_not_know_each_other(first):
    second = APART[first]
    found = {m: names for m, names in GRAPH.items() if m.split(".")[0] == first}
    assert not [(m, n) for m, names in found.items() for n in names if n.split(".")[0] == second]


def test_there_are_no_circles():
    state: dict[str, int] = {}
    path: list[str] = []

    def visit(module: str) -> None:
        state[module] = 1
        path.append(module)
        for name in sorted(GRAPH.get(module, ())):
            assert state.get(name) != 1, "circle: " + " -> ".join([*path[path.index(name) :], name])
            if name not in state:
                visit(name)
        path.pop()
        state[module] = 2

    for module in sorted(GRAPH):
        if module not in state:
            visit(module)


def test_no_name_stands_for_two_modules():
    names = Counter(path.stem for path in MODULES.values() if path.stem != "__init__")
    assert not [name for name, count in names.items() if count > 1]
