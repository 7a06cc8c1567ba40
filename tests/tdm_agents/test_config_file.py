"""--config FILE: the options of a command as YAML, and the file that each run writes."""

import json
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import get_args

import pytest
import tyro
import yaml

from tdm_agents.cli.config_file import config_text, words_of
from tdm_agents.cli.main import COMMANDS, main, options_of
from tdm_agents.cli.option_table import option_table, subcommands
from tdm_agents.training.train_config import TrainConfig

LEAVES = [
    pytest.param(name, word, one, id=f"{name} {word}".strip())
    for name in COMMANDS
    for word, one in (subcommands(options_of(name)) or {"": options_of(name)}).items()
]
SOME = {
    "collect": ["--out", "o", "--actor", "random", "--actor", "expert episodes=3", "--seed", "4"],
    "train": [
        *("--data", "a", "b", "--out", "o", "--weights", "x", "0.5", "--no-known-reward", "--bf16"),
        *(
            "--model-settings",
            "hidden",
            "32",
            "norm",
            "True",
            "--betas",
            "0.5",
            "0.75",
            "--horizons",
            "1",
            "2",
        ),
    ],
    "online": ["--env-id", "tdm/WalkerTree-v0 dof=12", "--out", "o", "--terminates", "True", "--import", "m"],
    "distill": ["--teacher", "expert", "--out", "o", "--report-episodes", "0"],
    "evaluate": ["--random", "--planner-settings", "horizon", "5"],
    "compare": ["--entry", "runs/a label=yes", "--entry", "random", "--env-id", "a", "--env-id", "b"],
    "study": ["zero-shot", "--size", "smoke", "--adopt", "walkers=runs/walkers"],
    "data": ["info", "runs/data", "--json"],
    "experts train": ["--env-id", "e", "--out", "o", "--settings", "learning-rate", "1e-3"],
    "envs gallery": ["--dofs", "--bodies", "3"],
    "envs sample": ["--out", "o.json", "--count", "2", "--dof", "4", "8"],
    "envs check": ["m.json"],
}
EVALUATE = {"random": True, "env-id": "Pendulum-v1", "episodes": 2, "max-steps": 5}


@pytest.fixture
def config(tmp_path):
    """Writes a file of options."""

    def write(options):
        path = tmp_path / "options.yaml"
        path.write_text(options if isinstance(options, str) else yaml.safe_dump(options))
        return path

    return write


@pytest.mark.parametrize(("name", "word", "kind"), LEAVES)
def test_what_a_command_runs_with_is_read_back_as_it_was(name, word, kind, tmp_path):
    command = f"{name} {word}".strip()
    words = SOME.get(command, [])
    settings = tyro.cli(kind, args=words)
    file = tmp_path / "options.yaml"
    file.write_text(config_text(settings, command))
    assert set(yaml.safe_load(file.read_text())) == set(option_table(kind))
    assert tyro.cli(kind, args=words_of(file, kind, [], command)) == settings
    # a subcommand is chosen by its word
    again = words_of(file, options_of(name), [word] if word else [], name)
    whole = tyro.cli(options_of(name), args=again)
    assert (whole.command if word else whole) == settings


@pytest.mark.parametrize(("name", "word", "kind"), LEAVES)
def test_nothing_in_a_file_means_the_default(name, word, kind):
    for option in option_table(kind).values():
        if NoneType in get_args(option.kind):
            assert option.default is None, f"{option.name}: null in a file would not be what is left out"


def test_options_that_are_typed_count_instead_of_those_of_the_file(config):
    kind = options_of("train")
    file = config({"data": ["a"], "out": "o", "steps": 5, "bf16": True, "model_settings": {"hidden": 8}})
    typed = ["--data", "b", "c", "--no-bf16", "--steps=7", "--model-settings", "layers", "2"]
    read = tyro.cli(kind, args=words_of(file, kind, typed, "train"))
    assert read.data == (Path("b"), Path("c")) and read.out == Path("o")
    assert (read.training.steps, read.training.bf16) == (7, False)
    assert read.model_settings == {"layers": "2"}
    kind = options_of("compare")
    file = config({"entry": ["random", "simulator"], "import": "mine"})
    read = tyro.cli(kind, args=words_of(file, kind, ["--entry", "other"], "compare"))
    assert (read.entry, read.import_) == (("other",), ("mine",))
    kind = options_of("study")
    file = config({"name": "zero-shot", "size": "smoke"})
    for typed, name in (([], "zero-shot"), (["few-shot", "--workers", "2"], "few-shot")):
        read = tyro.cli(kind, args=words_of(file, kind, typed, "study"))
        assert (read.name, read.size) == (name, "smoke")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"episods": 3}, "has no option 'episods'; did you mean 'episodes'?"),
        ({"nothing like it": 3}, "expected one of checkpoint, env-id"),
        ({"random": "perhaps"}, "random is 'perhaps'; expected true or false"),
        ({"planner-settings": "horizon 5"}, "expected names with values"),
        ({"episodes": {"many": 3}}, "expected a value"),
        ("just words", "holds a str; expected options"),
        ("a: [1", "is not YAML"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(options, said, config, capsys):
    assert main(["evaluate", "--config", str(config(options))]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--config"], "names no file"), (["--config", "nowhere.yaml"], "there is no such file")],
)
def test_a_file_that_is_not_there_is_refused(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_value_that_the_option_does_not_take_is_refused_as_if_it_were_typed(config, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--config", str(config({"episodes": "many"}))])
    assert ended.value.code == 2
    assert "--episodes" in capsys.readouterr().err


def test_code_in_a_file_does_not_run(config, tmp_path, capsys):
    ran = tmp_path / "ran"
    assert (
        main(["evaluate", "--config", str(config(f"out: !!python/object/apply:pathlib.Path.touch [{ran}]"))])
        == 2
    )
    assert "is not YAML" in capsys.readouterr().err and not ran.exists()


def test_a_run_is_repeated_by_the_file_that_it_wrote(config, tmp_path):
    first = tmp_path / "first.json"
    assert main(["evaluate", "--config", str(config(EVALUATE)), "--out", str(first), "--seed", "3"]) == 0
    written = first.with_suffix(".config.yaml")
    assert yaml.safe_load(written.read_text())["seed"] == 3
    again = tmp_path / "again.json"
    assert main(["evaluate", "--config", str(written), "--out", str(again)]) == 0
    reports = [json.loads(file.read_text()) for file in (first, again)]
    assert reports[0]["settings"] == reports[1]["settings"]
    returns = [[one["return"] for one in report["episodes"]] for report in reports]
    assert returns[0] == returns[1] and len(returns[0]) == 2


def test_options_of_the_dataclasses_inside_are_in_the_table():
    kind = options_of("train")
    flat = [f for f in fields(kind) if f.name != "training"] + list(fields(TrainConfig))
    assert set(option_table(kind)) == {f.name.replace("_", "-") for f in flat}
