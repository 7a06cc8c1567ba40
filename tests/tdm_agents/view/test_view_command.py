"""``tdm view`` in the terminal: its address, its refusals, and Ctrl-C."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
import yaml
from view_command import viewing

from tdm_agents.cli.main import main

WORDS = ("--env-id", "tdm/WalkerLine-v0 dof=4 body=0", "--entry", "random")


def test_ctrl_c_ends_it_and_all_that_it_started(tmp_path):
    with viewing(tmp_path, *WORDS) as running:
        assert running.url == f"http://127.0.0.1:{running.port}/"
        with urllib.request.urlopen(running.url, timeout=30) as answer:
            assert answer.status == 200
        children = running.children()
        assert len(children) >= 1
        assert running.interrupt() == 0
        printed = running.log.read_text()
        kept = yaml.safe_load((tmp_path / "out" / "tdm-view.yaml").read_text())
        assert (kept["env-id"], kept["entry"], kept["port"]) == (WORDS[1], [WORDS[3]], 0)
        assert "the view is closed" in printed and "Traceback" not in printed
        until = time.monotonic() + 20
        while any(os.path.exists(f"/proc/{child}") for child in children) and time.monotonic() < until:
            time.sleep(0.1)
        assert not [child for child in children if os.path.exists(f"/proc/{child}")]


def test_elsewhere_the_printed_address_has_a_token(tmp_path):
    with viewing(tmp_path, *WORDS, "--host", "0.0.0.0") as running:
        assert "?token=" in running.url
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://127.0.0.1:{running.port}/", timeout=30)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--entry", "random"), "no environment: pass --env-id"),
        (("--fps", "0"), "--fps is 0.0; expected more than 0"),
        (("--port", "-1"), "--port is -1"),
        (("--entry", "simulator planner=cemm", "--env-id", "Hopper-v5"), "did you mean 'cem'"),
    ],
)
def test_a_mistake_is_one_line(words, message, capsys):
    assert main(["view", *words]) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_without_the_extra_the_remedy_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    assert main(["view", *WORDS]) == 2
    assert "pip install 'tdm-agents[view]'" in capsys.readouterr().err


def test_nothing_heavy_is_imported_for_help():
    code = (
        "import sys; from tdm_agents.cli.main import main\n"
        "try: main(['view', '--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('viser', 'torch', 'mujoco', 'trimesh') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
