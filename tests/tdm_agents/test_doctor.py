"""tdm doctor: what is there, what is missing, and the remedy of each lack."""

import json
import os
import re
from importlib.metadata import version

import pytest

from tdm_agents.cli import health
from tdm_agents.cli.health import Finding, ProbeError, examine, folders, packages, plugins, probe
from tdm_agents.cli.main import main

CRASH = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"


@pytest.fixture
def shadowed(tmp_path, monkeypatch):
    """Puts a module of that name before the installed one, for this test's child processes."""

    def shadow(name, source):
        (tmp_path / "first").mkdir(exist_ok=True)
        (tmp_path / "first" / f"{name}.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "first"))

    return shadow


def test_packages_are_held_against_the_declared_ranges():
    found = list(
        packages(["numpy>=1.26", "rich<0.1", "nobody-has-this>=2", 'pytest>=99; extra == "dev"', "tyro[x]"])
    )
    assert [f.state for f in found] == ["ok", "problem", "problem", "ok"]
    numpy, rich, missing, _ = found
    assert re.match(r"\d+\.", numpy.found) and numpy.remedy == ""
    assert rich.found.endswith("expected <0.1") and rich.remedy == "pip install 'rich<0.1'"
    assert missing == Finding(
        "nobody-has-this", "problem", "missing; expected >=2", "pip install 'nobody-has-this>=2'"
    )


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    good, bad = folders({"outputs": tmp_path / "new", "elsewhere": tmp_path / "file" / "below"})
    assert good == Finding("outputs", "ok", str(tmp_path / "new")) and not (tmp_path / "new").exists()
    assert bad.state == "problem" and f"{tmp_path / 'file'} is not a folder" in bad.found


def test_a_crash_of_what_is_tried_does_not_take_the_doctor_with_it(shadowed):
    shadowed("torch", CRASH)
    with pytest.raises(ProbeError, match=r"ended with status -11"):
        probe("torch")
    with pytest.raises(ProbeError, match="KeyError: 'nothing'"):
        probe("nothing")


def test_a_plug_in_that_cannot_be_used_is_named_and_the_others_are_listed(tmp_path, monkeypatch):
    folder = tmp_path / "acme-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[tdm_agents.planners]\nbroken = nobody_has_this:Planner\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    good, bad = plugins()
    assert good.state == "ok" and "mppi" in good.found and "transformer" in good.found
    assert bad.state == "note" and "broken" in bad.what and "of package acme 1.0" in bad.found


def test_where_planning_works_the_status_is_0(monkeypatch, capsys):
    # the probes of the others are slow, and have tests of their own
    monkeypatch.setattr(health, "_renderer", lambda: Finding("renderer", "note", "none", "install one"))
    monkeypatch.setattr(health, "plugins", list)
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "Planning works." in said and "renderer: install one" in said
    assert "mujoco" in said and "ffmpeg" in said


def test_where_it_does_not_the_status_is_1_and_every_lack_has_its_remedy(shadowed, monkeypatch, capsys):
    shadowed("torch", "raise ImportError('libtorch is broken')")
    shadowed("imageio_ffmpeg", "raise ImportError('no ffmpeg')")
    monkeypatch.setenv("MUJOCO_GL", "disable")
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json"])
    assert ended.value.code == 1
    found = {f["what"]: f for f in json.loads(capsys.readouterr().out)}
    assert "libtorch is broken" in found["devices"]["found"]
    assert found["devices"]["state"] == found["planning"]["state"] == "problem"
    assert (found["ffmpeg"]["state"], found["renderer"]["state"]) == ("note", "note")
    assert "imageio[ffmpeg]" in found["ffmpeg"]["remedy"]
    assert found["python"]["state"] == "ok"
    assert found["tdm-agents"]["found"] == version("tdm-agents")
    assert all(f["remedy"] for f in found.values() if f["state"] != "ok")


def test_a_switched_off_renderer_is_a_note_with_the_remedy(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disable")
    monkeypatch.setattr(health, "probe", lambda name, environ=None: answers[name])
    why = "MUJOCO_GL=disable switches rendering off; unset it"
    answers = {
        "torch": {"version": "2", "cuda": "12", "gpus": [], "threads": 1},
        "plugins": {},
        "ffmpeg": {"version": "7"},
        "renderer": {"backend": None, "why": why},
        "planning": {"milliseconds": 3.0},
    }
    found = {f.what: f for f in examine()}
    assert (found["renderer"].state, found["renderer"].remedy) == ("note", why)
    assert "nvidia-smi" in found["devices"].remedy
    assert os.environ["MUJOCO_GL"] == "disable"
