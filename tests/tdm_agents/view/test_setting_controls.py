"""Controls are generated from anybody's planner, and end where it refuses."""

from dataclasses import dataclass, replace
from typing import Literal

import pytest

from tdm_agents import registry
from tdm_agents.registry import make_planner
from tdm_agents.view.setting_controls import SettingControl, setting_controls, with_setting


@dataclass(frozen=True, kw_only=True)
class Stranger:
    horizon: int = 6
    share: float = 0.3
    greedy: bool = False
    mode: Literal["a", "b"] = "a"
    limit: int | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self):
        if not 2 <= self.horizon <= 20 or not 0 < self.share <= 1:
            raise ValueError("no")


def test_a_field_gets_the_control_of_its_type_and_the_ends_that_the_planner_accepts():
    assert setting_controls(Stranger()) == [
        SettingControl("horizon", "whole", 6, low=2, high=12),
        SettingControl("share", "number", 0.3, low=0.03, high=1.0),
        SettingControl("greedy", "switch", False),
        SettingControl("mode", "choice", "a", choices=("a", "b")),
        SettingControl("limit", "whole", None, optional=True, low=0, high=8),
    ]


@pytest.mark.parametrize("name", registry.names(registry.PLANNERS))
def test_every_planner_accepts_both_ends_of_its_sliders(name):
    planner = make_planner(name)
    controls = setting_controls(planner)
    assert "horizon" in {control.name for control in controls}
    for control in controls:
        if control.kind in ("whole", "number"):
            for end in (control.low, control.high):
                replace(planner, **{control.name: end})


def test_what_a_planner_refuses_is_told_in_its_own_words():
    with pytest.raises(ValueError, match="num_elites is 99"):
        with_setting(make_planner("cem"), "num_elites", 99)


def test_what_is_no_dataclass_has_no_controls():
    assert setting_controls(object()) == []
