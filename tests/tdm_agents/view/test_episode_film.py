"""``tdm play --record``: the episode is the same, and its scene is one file."""

import json

import pytest

from tdm_agents.cli.main import main
from tdm_agents.view.episode_film import EpisodeFilm

SMALL = ("--planner", "cem", "--planner-settings", "horizon", "3", "num-samples", "4", "num-elites", "2",
         "--max-steps", "12", "--no-video")  # fmt: skip


def play(out, *words):
    status = main(["play", *SMALL, "--out", str(out), *map(str, words)])
    return status, json.loads((out / "play.json").read_text()) if status == 0 else None


@pytest.mark.parametrize("who", [(), ("--simulator", "--checkpoint", "cartpole-swingup")])
def test_the_scene_is_one_file_and_the_episode_the_same(who, tmp_path, capsys):
    file = tmp_path / "sent" / "scene.html"
    status, recorded = play(tmp_path / "a", *who, "--record", file)
    assert status == 0 and f"scene: {file}" in capsys.readouterr().out
    status, plain = play(tmp_path / "b", *who)
    assert recorded["episodes"][0]["return"] == plain["episodes"][0]["return"]
    assert recorded["settings"] == plain["settings"]
    text = file.read_text()
    assert text.lstrip().lower().startswith("<!doctype html") and "__VISER_EMBED_DATA__" in text
    assert "src=http" not in text and 'src="http' not in text
    assert file.stat().st_size < 5_000_000


@pytest.mark.parametrize(
    ("file", "message"),
    [("scene.mp4", "expected a file that ends in .html"), ("taken/scene.html", "--record")],
)
def test_a_mistake_is_told_before_the_episode(file, message, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    assert play(tmp_path / "out", "--record", tmp_path / file)[0] == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_has_no_body_cannot_be_filmed():
    import gymnasium as gym

    with pytest.raises(TypeError, match="no MuJoCo body to draw"):
        EpisodeFilm(None).watch(gym.make("CartPole-v1"))
