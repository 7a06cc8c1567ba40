"""Reports of studies: rows, panels, pages and figures, with known answers."""

import pytest

from tdm_agents.environments import EnvRef
from tdm_agents.studies.figures import draw
from tdm_agents.studies.panels import panels_of
from tdm_agents.studies.report_rows import rows_of
from tdm_agents.studies.report_text import text
from tdm_agents.studies.stages import Evaluate, Figure, Protocol

A, B = EnvRef("Pendulum-v1"), EnvRef("CartPole-v1")
PROTOCOL = Protocol(episodes=2)


def evaluation(name, label, env=A, **more):
    return Evaluate(name=name, label=label, line="random", envs=(env,), protocol=PROTOCOL, **more)


RANDOM = evaluation("random", "random", role="random")
TRUE = evaluation("true", "true", role="simulator", reference="true")
RETURNS = {"random": {"Pendulum-v1": [0.0, 2.0]}, "true": {"Pendulum-v1": [10.0, 12.0]}}  # means 1 and 11


def test_episodes_of_one_evaluation_are_runs_of_their_own():
    one = evaluation("one", "model", reference="true")
    *_, row = rows_of([RANDOM, TRUE, one], {**RETURNS, "one": {"Pendulum-v1": [1.0, 11.0]}})
    assert row["tasks"]["Pendulum-v1"]["returns"] == [1.0, 11.0]
    assert row["normalised"]["value"] == 0.5
    assert row["gap"]["value"] == pytest.approx(0.5)  # (10 - 1) / 10 and (12 - 11) / 10


def test_each_of_several_draws_is_a_run():
    draws = [evaluation(name, "model", reference="true", x=3) for name in ("first", "second", "third")]
    scores = {"first": [0.0, 2.0], "second": [4.0, 8.0], "third": [20.0, 2.0]}
    played = {name: {"Pendulum-v1": each} for name, each in scores.items()}
    *_, row = rows_of([RANDOM, TRUE, *draws], {**RETURNS, **played})
    assert row["tasks"]["Pendulum-v1"]["returns"] == [1.0, 6.0, 11.0]
    assert row["normalised"]["value"] == 0.5 and row["gap"]["value"] == 0.5
    assert (row["normalised"]["low"], row["normalised"]["high"]) == (0.0, 1.0)
    assert set(row["lines"]) == set(scores)


def test_evaluations_of_one_label_in_several_tasks_are_one_row():
    stages = [evaluation("a", "model"), evaluation("b", "model", env=B), evaluation("c", "model", panel="p")]
    rows = rows_of(stages, {"a": {A.name: [1.0]}, "b": {B.name: [2.0]}, "c": {A.name: [3.0]}})
    assert [list(row["tasks"]) for row in rows] == [[A.name, B.name], [A.name]]


def test_a_policy_has_no_gap_and_a_reference_that_is_no_better_gives_no_scale():
    policy = evaluation("one", "policy", role="other", reference="true")
    played = {**RETURNS, "one": {"Pendulum-v1": [1.0, 11.0]}}
    assert rows_of([RANDOM, TRUE, policy], played)[-1]["gap"] is None
    worse = {**played, "true": {"Pendulum-v1": [0.0, 2.0]}}
    row = rows_of([RANDOM, TRUE, policy], worse)[-1]
    assert row["normalised"] is None


def rows_over_x():
    stages = [RANDOM]
    played = {**RETURNS}
    for panel in ("one", "two"):
        for x in (1, 10):
            name = f"{panel}-{x}"
            stages.append(evaluation(name, "model", x=x, panel=panel, reference="true"))
            played[name] = {"Pendulum-v1": [float(x), float(x)]}
    return rows_of([TRUE, *stages], played)


def test_whoever_has_no_panel_is_in_every_panel_of_its_task():
    panels = panels_of(rows_over_x())
    assert {name: [row["label"] for row in own] for name, own in panels.items()} == {
        "one": ["true", "random", "model", "model"],
        "two": ["true", "random", "model", "model"],
    }


def page(rows, average="iqm", **models):
    about = {"title": "T", "study": "s", "size": "smoke", "average": average, "one": "the best"}
    return text({**about, "missing": [], "origins": [{}], "contestants": rows, "models": models})


def test_the_page_has_contestants_by_position():
    lines = page(rows_over_x()).splitlines()
    start = lines.index("## two")
    assert lines[start + 2 : start + 7] == [
        "| return of | 1 | 10 |",
        "|---|---:|---:|",
        "| true | 11.0 (10.0 to 12.0) | 11.0 (10.0 to 12.0) |",
        "| random | 1.0 (0.0 to 2.0) | 1.0 (0.0 to 2.0) |",
        "| model | 1.0 (1.0 to 1.0) | 10.0 (10.0 to 10.0) |",
    ]
    assert "| model | 1.00 (0.90 to 1.10) | 0.10 (0.00 to 0.20) |" in lines  # the gap


def test_the_page_says_what_is_not_normalised_and_how_far_off_models_are():
    policy = evaluation("one", "policy", role="other")
    rows = rows_of([RANDOM, policy], {**RETURNS, "one": {"Pendulum-v1": [1.0, 11.0]}})
    errors = [{"horizon": 1, "median": 0.25}, {"horizon": 5, "median": None}]
    said = page(rows, m={A.name: errors})
    assert "| m | 1: 0.25, 5: not finite |" in said
    assert "Not normalised: policy." in said


def test_of_successes_it_is_their_share():
    # of three successes in four, the interquartile mean would be 1
    returns = {
        "random": {A.name: [0.0] * 4},
        "true": {A.name: [1.0] * 4},
        "one": {A.name: [1.0, 1.0, 0.0, 1.0]},
    }
    one = evaluation("one", "model", reference="true")
    rows = rows_of([RANDOM, TRUE, one], returns, successes=True)
    here = next(row for row in rows if row["label"] == "model")["tasks"][A.name]
    assert here["value"] == 0.75 and 0.3 < here["low"] < 0.75 < here["high"] < 1.0
    assert rows_of([RANDOM, TRUE, one], returns)[2]["tasks"][A.name]["value"] == 1.0
    lines = page(rows, "mean").splitlines()
    assert "| model | 0.75 (0.30 to 0.95) |" in lines
    assert lines[2].startswith("Shares of successes")


@pytest.mark.parametrize("kind", ["bars", "curves", "successes"])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_figures_are_drawn_whatever_there_is(tmp_path, kind, logarithmic):
    figure = Figure(title="T", kind=kind, x_label="x", logarithmic=logarithmic)
    nothing = rows_of([RANDOM], RETURNS)
    for name, rows in {"all": rows_over_x(), "nothing": nothing}.items():
        draw(tmp_path / f"{name}.png", figure, rows)
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


def test_tasks_in_which_something_is_missing_are_left_out_of_normalised_returns():
    played = [
        evaluation(name, "model", env=env, reference=f"true-{name}") for name, env in {"a": A, "b": B}.items()
    ]
    true = [
        evaluation(f"true-{name}", "true", env=env, role="simulator", reference=f"true-{name}")
        for name, env in {"a": A, "b": B}.items()
    ]
    random = evaluation("random", "random", role="random")
    elsewhere = evaluation("random-b", "random", env=B, role="random")
    ones = {
        "random": {A.name: [0.0]},
        "random-b": {B.name: [0.0]},
        "true-a": {A.name: [1.0]},
        "true-b": {B.name: [1.0]},
    }
    returns = {**ones, "a": {A.name: [0.5]}, "b": {B.name: [0.9]}}
    stages = [random, elsewhere, *true, *played]
    assert rows_of(stages, returns)[-1]["normalised"]["value"] == pytest.approx(0.7)
    other = evaluation("other-b", "other", env=B, reference="true-b")
    row = rows_of(stages, returns, missing=[other])[-1]
    assert row["normalised"]["value"] == 0.5 and row["tasks"][B.name]["value"] == 0.9
    # where only one task's reference is still missing, the others keep their scale
    waiting = [random, elsewhere, true[0], played[0], evaluation("b", "model", env=B)]
    row = rows_of(waiting, returns, missing=[true[1]])[-1]
    assert row["normalised"]["value"] == 0.5 and row["tasks"][B.name]["value"] == 0.9
    at = [evaluation(name, "model", reference="true-a", x=1) for name in ("a", "c")]
    rows = rows_of([random, true[0], at[0]], returns, missing=at[1:])
    assert [row["label"] for row in rows] == ["random", "true"]
