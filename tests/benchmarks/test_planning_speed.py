"""``benchmarks/planning_speed.py``: rows are whole, kept at once, and not measured again."""

import json
import sys
from dataclasses import replace
from importlib.metadata import version

import pytest
import torch
import tyro

import planning_speed
from speed import measure as measuring
from speed.clock import Imagined, time_decision
from speed.contestants import CAPTURED, OTHERS, OWN, rows_that_fit, why_left_out
from speed.floor import linear_seconds
from speed.measure import Effort, measure, summary
from speed.memory import decision_bytes
from speed.models import random_model
from speed.results import read_rows, write_rows
from speed.roofline import DecisionShape
from speed.scenarios import Scenario, chosen, scenarios
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.decoding.options import DecodingOptions
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

CPU = torch.device("cpu")
SHAPE = DecisionShape(
    observation_dim=3,
    action_dim=1,
    num_samples=4,
    horizon=2,
    config=TransformerConfig(
        layers=2,
        width=16,
        heads=2,
        feedforward=24,
        tokenizer=TokenizerConfig(observation="mu_law", target="absolute", bins=32),
        decoding=DecodingOptions(read="sample"),
    ),
    history_steps=3,
)
WITHOUT_LLAMA = tuple(name for name in OTHERS if name != "transformers")
TINY = Scenario("tiny/one", SHAPE, 0.1, contestants=(*OWN, *CAPTURED, *WITHOUT_LLAMA))
EFFORT = Effort(repeats=1, seconds=60.0, rounds=2.0, memory=2**30)


@pytest.fixture
def small_rates(monkeypatch):
    """The machine's rates from small products and copies."""
    for table in (measuring._SQUARE, measuring._COPIED_MEGABYTES):
        for kind in table:
            monkeypatch.setitem(table, kind, 16)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu])])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_row_has_everybody_and_every_limit(dtype, device, small_rates):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    row = measure(TINY, dtype, device=torch.device(device), effort=EFFORT)
    json.dumps(row, allow_nan=False)
    on_gpu = () if device == "cpu" else tuple(CAPTURED)
    assert tuple(row["contestants"]) == (*OWN, *on_gpu, *WITHOUT_LLAMA)
    for found in row["contestants"].values():
        assert found["whole"] and len(found["seconds"]) == 1
        assert found["tokens_per_second"] == pytest.approx(4 * found["transitions_per_second"])
        assert found["transitions_per_second"] == pytest.approx(8 * found["decisions_per_second"])
        assert found["times_real_time"] == pytest.approx(0.1 * found["decisions_per_second"])
        assert found["peak_bytes"] > 0 and found["of_floor"] > 0 and found["of_roofline"] > 0
    assert row["limits"]["sequential"]["forwards"] == 1 + 2 * 4
    assert row["limits"]["parallel"]["forwards"] == 1 + 2 * 3
    assert row["provenance"]["versions"]["torch"] == version("torch")


def test_a_decision_that_takes_too_long_is_cut_and_says_so():
    found = time_decision(iter([torch.zeros(4, 3)] * 5), CPU, at_most=0.0)
    assert found.transitions == 4
    limit = {"roofline_seconds": 1.0, "call_floor_seconds": 1.0}
    cut = summary(TINY, [Imagined(1.0, 4), Imagined(2.0, 8)], floor=0.5, limit=limit)
    assert cut["seconds"] == [2.0, 2.0] and not cut["whole"]
    assert cut["of_floor"] == 0.25 and cut["of_roofline"] is None
    whole = summary(TINY, [Imagined(2.0, 8)], floor=0.5, limit=limit)
    assert whole["whole"] and whole["of_roofline"] == 0.5


def test_rows_split_where_memory_is_short_and_the_others_are_left_out(small_rates):
    whole = decision_bytes(SHAPE)
    memory = whole.weights + whole.tables + whole.history_cache + (whole.imagined_cache + whole.working) // 2
    assert rows_that_fit("sequential", SHAPE, number_bytes=4, memory=memory) == 2
    assert rows_that_fit("sequential", SHAPE, number_bytes=4, memory=2**40) == SHAPE.rows
    assert rows_that_fit("sequential", SHAPE, number_bytes=4, memory=1) == 1
    row = measure(TINY, "float32", device=CPU, effort=replace(EFFORT, memory=1))
    assert set(row["contestants"]) == set(OWN)
    assert set(row["left_out"]) == set(WITHOUT_LLAMA) and "GiB" in row["left_out"]["no cache"]
    assert row["contestants"]["sequential"]["rows_at_once"] == 1
    assert row["contestants"]["sequential"]["whole"]


def test_who_takes_too_long_or_too_much_is_left_out():
    enough = {"number_bytes": 4, "memory": 2**40, "seconds": 60.0, "flops_per_second": 1e12}
    for name in OWN + OTHERS:
        assert why_left_out(name, SHAPE, **enough) is None
    slow = enough | {"flops_per_second": 1.0}
    assert "s or more for its first step" in why_left_out("no cache", SHAPE, **slow)
    assert why_left_out("copied cache", SHAPE, **slow) is None
    for name in OTHERS:
        assert "GiB" in why_left_out(name, SHAPE, **enough | {"memory": 1000})


def test_the_floor_is_that_of_every_forward():
    short, long = (replace(SHAPE, horizon=h) for h in (1, 400))
    model = random_model(SHAPE)
    seconds = [linear_seconds(model, shape, repeats=1) for shape in (short, long)]
    assert 0 < seconds[0] < seconds[1]


def test_scenarios_are_the_papers_and_every_one_fits():
    found = scenarios()
    sizes = {"cartpole": (128, 100), "walker": (64, 25), "humanoid": (64, 20)}
    for body, (samples, horizon) in sizes.items():
        for network in ("small", "gato-79m"):
            shape = found[f"{body}/{network}"].shape
            assert (shape.num_samples, shape.horizon) == (samples, horizon)
            assert shape.history_steps == shape.band_steps
            assert {found[f"{body}/{network}/batch-{b}"].shape.batch for b in (8, 64)} == {8, 64}
    assert found["cartpole/small"].shape.config.context == 24
    assert found["table/history-118"].shape.config.width == 128
    assert [s.name for s in chosen(["table/*"])] == ["table/history-10", "table/history-118"]


def run(*words):
    planning_speed.main(tyro.cli(planning_speed.Settings, args=words))


def test_a_command_measures_prints_keeps_and_goes_on(tmp_path, monkeypatch, capsys, small_rates):
    monkeypatch.setattr("speed.scenarios.scenarios", lambda: every)
    every = {
        f"sweep/horizon-{h}": replace(TINY, name=f"sweep/horizon-{h}", shape=replace(SHAPE, horizon=h))
        for h in (1, 2)
    }
    out, plot = tmp_path / "speed.json", tmp_path / "speed.png"
    words = ["--dtypes", "float32", "--repeats", "1", "--out", str(out)]
    run(*words, "--only", "sweep/horizon-1")
    kept = json.loads(out.read_text())["rows"]
    assert list(kept) == ["sweep/horizon-1/float32"]
    run(*words, "--plot", str(plot))
    value = json.loads(out.read_text())
    assert value["rows"]["sweep/horizon-1/float32"] == kept["sweep/horizon-1/float32"]
    assert list(value["rows"]) == ["sweep/horizon-1/float32", "sweep/horizon-2/float32"]
    said = capsys.readouterr().out
    assert all(f"{name} " in said for name in (*OWN, *WITHOUT_LLAMA, "the floor", "roofline"))
    assert plot.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="was measured with threads 1, not 2"):
        run(*words, "--threads", "2")


def test_rows_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "rows.json"
    assert read_rows(path, {"threads": 1}) == {}
    write_rows(path, {"threads": 1}, {"a/float32": {"x": 1.5}})
    assert read_rows(path, {"threads": 1}) == {"a/float32": {"x": 1.5}}


@pytest.mark.parametrize("settings", [{}, {"threads": 1, "device": "cpu"}, {"threads": 2}])
def test_rows_of_other_settings_are_not_mixed(settings, tmp_path):
    path = tmp_path / "rows.json"
    write_rows(path, {"threads": 1}, {})
    with pytest.raises(ValueError, match="choose another --out"):
        read_rows(path, settings)


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (["--only", "nothing"], LookupError, "no scenario 'nothing'; there are table/history-10"),
        (["--without", "Llama"], LookupError, "no contestant 'Llama'"),
        (["--repeats", "0"], ValueError, "--repeats is 0"),
        (["--seconds", "0"], ValueError, "--seconds is 0.0"),
        (["--rounds", "0.5"], ValueError, "--rounds is 0.5"),
        (["--memory-gb", "0"], ValueError, "--memory-gb is 0.0"),
        (["--plot", "."], ValueError, "is a folder"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_measured(words, error, said):
    with pytest.raises(error, match=said):
        run(*words)


def test_names_are_listed_and_transformers_is_asked_for(monkeypatch, capsys, tmp_path):
    run("--list", "--only", "walker/small*")
    assert capsys.readouterr().out.split() == [
        "walker/small",
        "walker/small/batch-8",
        "walker/small/batch-64",
    ]
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match="--without transformers"):
        run("--only", "walker/small", "--out", str(tmp_path / "speed.json"))
