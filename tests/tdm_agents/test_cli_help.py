"""What `tdm` answers before it works: help, version, nearest names, completion; and what it imports."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from tdm_agents.cli import main as command_line
from tdm_agents.cli.main import COMMANDS, main
from tdm_agents.cli.option_table import option_table, subcommands

HEAVY = {
    "dm_control",
    "h5py",
    "matplotlib",
    "minari",
    "mujoco",
    "numba",
    "pandas",
    "scipy",
    "shimmy",
    "stable_baselines3",
    "tensorboard",
    "torch",
}
SHELLS = ["bash", "zsh"]  # fish too, by newer versions of tyro


def printed(*words):
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_of_every_command_imports_nothing_that_is_slow():
    script = (
        "import sys\n"
        "from tdm_agents.cli.main import COMMANDS, main\n"
        "for command in COMMANDS:\n"
        "    try:\n"
        "        main([command, '--help'])\n"
        "    except SystemExit as ended:\n"
        "        assert not ended.code\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(done.stderr.split())
    assert done.stdout.count("--quiet") == done.stdout.count("--config ") >= len(COMMANDS)


@pytest.mark.parametrize("words", [["-m", "tdm_agents"], ["-m", "tdm_agents.cli.main"]])
def test_the_version_is_that_of_the_package(words):
    assert printed(*words, "--version") == f"tdm-agents {version('tdm-agents')}\n"


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["trian"], "did you mean 'train'?"),
        (["--verison"], "did you mean '--version'?"),
        (["evaluate", "--episods", "3"], "--episodes"),
        (["experts", "train", "--out", "o", "--env-id", "e", "--algoritm", "sac"], "--algorithm"),
    ],
)
def test_the_nearest_name_is_told(words, nearest, capsys):
    try:
        status = main(words)
    except SystemExit as ended:  # tyro's own refusal
        status = ended.code
    assert status == 2
    said = capsys.readouterr()
    assert nearest in said.err and not said.out


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_names_all_commands_and_their_options(shell, tmp_path):
    file = tmp_path / "completion"
    assert main(["--tyro-write-completion", shell, str(file)]) == 0
    script = file.read_text()
    for name in COMMANDS:
        kind = command_line.options_of(name)
        for one in (kind, *subcommands(kind).values()):
            assert name in script
            assert all(o.name in script for o in option_table(one).values() if not o.positional)
    assert "quiet" in script


def test_bash_completes_commands_options_and_choices(tmp_path):
    script = tmp_path / "tdm.bash"
    assert main(["--tyro-write-completion", "bash", str(script)]) == 0
    done = subprocess.run(
        ["bash", "-c", TRY, "bash", str(script)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["train", "--steps --starts", "ppo", "smoke small"], done.stderr


TRY = r"""
source "$1"
try() {
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
  $(complete -p tdm | sed 's/.*-F \([^ ]*\).*/\1/')
  echo "${COMPREPLY[*]}"
}
try tdm tr
try tdm train --st
try tdm experts train --algorithm p
try tdm study --size s
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tyro-write-completion"], "expected tdm --tyro-write-completion SHELL FILE"),
        (["--tyro-write-completion", "bash"], "expected tdm --tyro-write-completion SHELL FILE"),
        (["--tyro-print-completion", "nosh"], "completion for 'nosh' cannot be written"),
        (["--tyro-write-completion", "bash", "/nowhere/file"], "/nowhere/file"),
    ],
)
def test_completion_that_cannot_be_written_is_refused(words, said, capsys):
    assert main(words) == 2
    assert said in capsys.readouterr().err
