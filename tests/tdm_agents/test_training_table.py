"""What training ends with: tables whose words the glossary explains, and a verdict in words."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

from rich.console import Console

from tdm_agents.cli.training_table import online_table, training_table
from tdm_agents.online.online_state import Counts
from tdm_agents.online.online_trainer import OnlineResult
from tdm_agents.training.progress import TrainingProgress
from tdm_agents.training.verdict import HorizonError, Verdict

GLOSSARY = (Path(__file__).parents[2] / "docs/glossary.md").read_text()
TERMS = {line.split("|")[1].strip().strip("`") for line in GLOSSARY.splitlines() if line.startswith("| ")}
VERDICT = Verdict(
    judged="observations",
    starts=64,
    furthest=5,
    holds=1,
    exploded_at=4,
    errors=(HorizonError(1, 0.25, 0.5, 1.0, 0), HorizonError(5, 2.0, float("inf"), None, 3)),
    planner="cem",
    horizon=25,
    advised=1,
    milliseconds=None,
)
METRICS = {"held_out/loss": 1.5, "prediction/reward_rms@1": 0.125, "prediction/median@1": 0.25}
SEVERAL = {"held_out/loss": 1.0, "held_out/loss/a": 0.5, "held_out/loss/b/c-v0": 1.5} | {
    "prediction/reward_rms@5/a": 0.75,
    "prediction/median@1": 0.25,
    "prediction/median@1/a": 0.25,
}
RESULT = OnlineResult(Counts(env_steps=1000, decisions=500, updates=400), False, {"a": (1.0, 3.0)})


def shown(table):
    console = Console(file=StringIO(), width=120)
    console.print(table)
    return console.file.getvalue()


def test_every_column_is_a_word_of_the_glossary():
    tables = [training_table({"a": VERDICT, "b": VERDICT}, SEVERAL), online_table(RESULT)]
    for table in tables:
        for column in table.columns:
            word = str(column.header)
            assert word in TERMS or word.removesuffix("s") in TERMS, word
    assert {"held-out", "loss", "verdict"} <= TERMS


def test_errors_are_in_the_table_by_horizon():
    lines = shown(training_table({"CartPole-v1": VERDICT}, METRICS)).splitlines()
    first, last = (line for line in lines if "of 64" in line)
    assert [cell.strip() for cell in first.split("│")[1:-1]] == ["1", "0.25", "0.5", "1", "0 of 64", "0.125"]
    assert [cell.strip() for cell in last.split("│")[1:-1]] == ["5", "2", "inf", "-", "3 of 64", "-"]
    assert "held-out loss 1.5" in lines[-1]


def test_of_several_environments_each_has_its_rows():
    text = shown(training_table({"a": VERDICT, "b": replace(VERDICT, errors=())}, SEVERAL))
    assert "environment" in text and "0.75" in text and "│ b" not in text


def test_there_is_no_table_where_nothing_was_judged():
    assert training_table({"a": replace(VERDICT, judged="nothing", errors=())}, {}) is None
    assert online_table(replace(RESULT, returns={})) is None


def test_the_last_evaluation_of_online_training_is_a_table():
    text = shown(online_table(RESULT))
    assert "1,000" in text and "2.0" in text and "1.0 3.0" in text
    assert len(online_table(RESULT).columns) == 2
    several = online_table(replace(RESULT, returns={"a": (1.0, 3.0), "b": (5.0,)}))
    assert [list(column.cells) for column in several.columns] == [
        ["a", "b"],
        ["2.0", "5.0"],
        ["1.0 3.0", "5.0"],
    ]


def test_evaluations_on_the_way_name_loss_and_median_errors():
    console = Console(file=StringIO(), width=40)
    progress = TrainingProgress(console, 10, 0)
    progress.evaluated(5, METRICS)
    progress.evaluated(6, SEVERAL)
    assert console.file.getvalue().splitlines() == [
        "step 5  held-out loss 1.500  median error 0.250 at horizon 1",
        "step 6  held-out loss 1.000  a 0.500  b/c-v0 1.500  median error 0.250 at horizon 1",
    ]
