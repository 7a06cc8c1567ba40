"""``tdm envs``: the list, sets of walkers on disk, and the gallery."""

import json

import imageio.v2 as imageio
import pytest
import tyro

from tdm_agents.cli.envs import Envs, known, run
from tdm_agents.cli.main import main
from tdm_agents.evaluation.video import NoRendererError
from tdm_envs.walkers import ManifestError, read_manifest


def tdm_envs(*words):
    run(tyro.cli(Envs, args=[str(word) for word in words]))


def test_the_list_names_walkers_with_their_arguments_and_the_suite(capsys):
    tdm_envs("list", "--json")
    found = {one["env_id"]: one for one in json.loads(capsys.readouterr().out)}
    assert found["tdm/WalkerBush-v0"]["arguments"] == "dof=4..20, body=0, 1, ..."
    assert found["tdm/WalkerBush-v0"]["max_episode_steps"] == 1000
    assert "dm_control/cartpole-swingup-v0" in found
    assert found["tdm/Suite-v0"]["arguments"].startswith("domain=, task=, variant=")
    assert found["tdm/Pixels-v0"]["arguments"].startswith("env=")
    ours = [one["about"] for name, one in found.items() if name.startswith("tdm/")]
    assert not any("Shimmy" in about for about in ours)


def test_the_list_can_be_narrowed(capsys):
    tdm_envs("list", "--match", "WalkerLine")
    shown = capsys.readouterr().out
    assert "tdm/WalkerLine-v0" in shown and "WalkerTree" not in shown


def test_no_id_is_cut_off_in_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    tdm_envs("list")
    shown = capsys.readouterr().out
    cells = [line.split("│")[1].strip() for line in shown.splitlines() if line.startswith("│")]
    assert "…" not in shown and "".join(cells) == "".join(one.env_id for one in known())


def test_a_sample_is_written_and_found_whole(tmp_path, capsys):
    path = tmp_path / "bodies.json"
    tdm_envs(
        "sample", "--out", path, "--count", 3, "--split", "test", "--dof", 5, 7, "--families", "line", "tree"
    )
    manifest = read_manifest(path)
    assert [body.family for body in manifest.bodies] == ["line"] * 3 + ["tree"] * 3
    assert set(manifest.splits) == {"test"}
    capsys.readouterr()
    tdm_envs("check", path)
    assert "all 6 bodies rebuild" in capsys.readouterr().out
    again = tmp_path / "again.json"
    config = path.with_suffix(".config.yaml")
    assert main(["envs", "sample", "--config", str(config), "--out", str(again)]) == 0
    assert again.read_text() == path.read_text()


def test_an_edited_manifest_is_refused(tmp_path):
    path = tmp_path / "bodies.json"
    tdm_envs("sample", "--out", path, "--count", 1, "--families", "bush")
    path.write_text(path.read_text().replace('"dof": ', '"dof": 1'))
    with pytest.raises(ManifestError, match="was changed after it was written"):
        tdm_envs("check", path)


def test_the_gallery_is_a_picture(tmp_path, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    out = tmp_path / "gallery.png"
    try:
        tdm_envs("gallery", "--family", "chain", "--dofs", 4, "--bodies", 0, 1, "--out", out)
    except NoRendererError as error:
        pytest.skip(str(error))
    assert imageio.imread(out).std() > 10
    assert "family: chain" in out.with_suffix(".config.yaml").read_text()


def test_a_size_that_does_not_exist_is_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(ValueError, match="dof is 3; expected an integer from 4 to 20"):
        tdm_envs("gallery", "--dofs", 3, "--out", tmp_path / "gallery.png")
