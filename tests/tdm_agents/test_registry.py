import subprocess
import sys
from dataclasses import dataclass

import pytest

from tdm_agents import registry
from tdm_agents.registry import PLANNERS, UnknownNameError, load, make_planner, names, register


@dataclass(frozen=True)
class Mine:
    horizon: int = 3
    width: int = 2


@pytest.fixture(autouse=True)
def unregister(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})


def test_the_built_in_planners_are_found_through_their_entry_points():
    assert {"cem", "mppi", "random_shooting"} <= set(names(PLANNERS))
    assert load(PLANNERS, "mppi").__name__ == "MPPI"


def test_settings_reach_the_planner():
    assert make_planner("cem", horizon=9, num_samples=48).horizon == 9


def test_a_registered_planner_is_made_by_name():
    register(PLANNERS, "mine", Mine)
    assert make_planner("mine", width=5) == Mine(width=5)
    assert "mine" in names(PLANNERS)


def test_an_unknown_name_gets_the_nearest_match_and_what_is_installed():
    with pytest.raises(UnknownNameError, match=r"no planner named 'mpi'; did you mean 'mppi'\?.*cem"):
        make_planner("mpi")


def test_a_name_like_no_other_gets_what_is_installed():
    with pytest.raises(UnknownNameError, match=r"no planner named 'zzz'; Installed: .*mppi"):
        make_planner("zzz")


@pytest.mark.parametrize("name", ["mine", "mppi"])
def test_a_name_cannot_be_taken_twice(name):
    register(PLANNERS, "mine", Mine)
    with pytest.raises(ValueError, match="already taken"):
        register(PLANNERS, name, Mine)


def test_an_unknown_setting_lists_the_settings():
    with pytest.raises(TypeError, match=r"planner 'mppi' has no setting 'samples'; it has .*num_samples"):
        make_planner("mppi", samples=3)


def test_a_setting_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="horizon is 0"):
        make_planner("mppi", horizon=0)


def test_planners_are_imported_when_first_used():
    code = (
        "import sys; from tdm_agents import registry; registry.names(registry.PLANNERS);"
        "assert not any(m.startswith('tdm_planners.') for m in sys.modules);"
        "registry.load(registry.PLANNERS, 'mppi'); assert 'tdm_planners.mppi' in sys.modules;"
        "assert 'tdm_planners.cem' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
