"""The cost plan is what its script computes from what was measured, and the page says the same."""

import json
from pathlib import Path

import pytest

import cost_plan

ROOT = Path(__file__).parents[2]
KEPT = json.loads((ROOT / "benchmarks/results/cost_plan.json").read_text())
PAGE = (ROOT / "docs/past_one_machine.md").read_text()


def test_the_kept_plan_is_what_the_script_computes():
    settings = cost_plan.Settings()
    there = cost_plan.data(settings)
    assert there == KEPT["data"]
    training = cost_plan.training(settings, there["tokens"])
    for name in ("gpu_hours", "gpu_hours_of_paper"):
        assert training[name] == pytest.approx(KEPT["training"][name])
    assert cost_plan.evaluation(settings)["gpu_hours_floor"] == pytest.approx(
        KEPT["evaluation"]["gpu_hours_floor"]
    )
    assert cost_plan.collection(settings) == pytest.approx(KEPT["collection_cpu_hours"])


@pytest.mark.parametrize(
    "hours",
    [
        KEPT["training"]["gpu_hours"],
        KEPT["training"]["gpu_hours_of_paper"],
        KEPT["evaluation"]["gpu_hours_floor"],
    ],
)
def test_the_page_has_the_rows(hours):
    assert f"| {' | '.join(f'{hours[name]:.1f}' for name in cost_plan.GPUS)} |" in PAGE


def test_the_page_has_the_collection():
    for name, digits in {"random": 0, "expert": 0, "handing_out_on_ray": 1}.items():
        assert f" | {KEPT['collection_cpu_hours'][name]:.{digits}f} |" in PAGE
