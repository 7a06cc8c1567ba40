"""tdm play: one episode of a checkpoint or of the simulator, with a plot and a video."""

import json

import gymnasium as gym
import imageio.v2 as imageio
import pytest
from my_drive import MyDrive

from tdm_agents import TDMAgent, evaluate, make_planner
from tdm_agents.actors.enter import enter
from tdm_agents.actors.entries import Entry
from tdm_agents.cli.main import main
from tdm_agents.environments import EnvRef, seconds_per_step
from tdm_agents.evaluation.video import NoRendererError, find_renderer
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel

CARTPOLE = "dm_control/cartpole-swingup-v0"
SMALL = ("--planner-settings", "horizon", "3", "num-samples", "4", "num-elites", "2", "iterations", "1")
STEPS = 24


def tdm(*words):
    return main([str(word) for word in words])


@pytest.mark.parametrize("simulator", [False, True])
def test_an_episode_is_played_drawn_and_kept(simulator, tmp_path, capsys):
    words = ("--simulator", "--checkpoint", "cartpole-swingup") if simulator else ()
    out = tmp_path / "out"
    assert (
        tdm("play", *words, "--planner", "cem", *SMALL, "--max-steps", STEPS, "--no-video", "--out", out) == 0
    )
    printed, told = capsys.readouterr()
    assert "episode seed 9999; cem (horizon=3, num_samples=4, iterations=1, num_elites=2" in told
    report = json.loads((out / "play.json").read_text())
    settings = report["settings"]
    assert settings["action_repeat"] == 4 and settings["reward_function"] == CARTPOLE
    assert settings["planner"] == "cem" and settings["planner_settings"]["num_samples"] == 4
    assert report["seeds"] == [9_999] and report["summary"]["decisions"] == STEPS / 4
    assert report["summary"]["transitions_per_decision"] == 3 * 4
    options = {"planner": "cem", "horizon": 3, "num_samples": 4, "num_elites": 2, "iterations": 1}
    entry = Entry("simulator" if simulator else "checkpoint", "" if simulator else "cartpole-swingup",
                  options | ({"like": "cartpole-swingup"} if simulator else {}))  # fmt: skip
    expected = evaluate(enter(entry, EnvRef(CARTPOLE)).contestant, CARTPOLE, [9_999], max_steps=STEPS)
    assert report["episodes"][0]["return"] == pytest.approx(expected.scores[0])
    assert f"return {expected.scores[0]:.1f} after {STEPS} environment steps (cut)" in printed
    assert printed.count("\n") == 3, "a line is wrapped"
    assert imageio.imread(out / "play.png").shape[1] == 1440
    assert sorted(p.name for p in out.iterdir()) == ["play.json", "play.png", "tdm-play.yaml"]


def test_without_a_renderer_the_video_is_skipped_with_the_remedy(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disable")
    words = ("--simulator", "--planner", "cem", "--env-id", "InvertedPendulum-v5", *SMALL, "--max-steps", "4")
    assert tdm("play", *words, "--out", tmp_path) == 0
    assert "no video: MUJOCO_GL=disable" in capsys.readouterr().out


def test_an_environment_without_a_clock_or_pictures_is_drawn_and_the_video_says_why_not(
    tmp_path, capsys, monkeypatch
):
    class Silent(MyDrive):
        metadata = {"render_modes": []}  # noqa: RUF012

    gym.register("SilentDrive-v0", Silent, max_episode_steps=4)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    try:
        made = gym.make("SilentDrive-v0")
        model = MLPWorldModel(spec_of(made.observation_space, made.action_space), MLPConfig(hidden=4))
        TDMAgent(model, make_planner("cem", horizon=2), env_id="SilentDrive-v0").save(tmp_path / "agent")
        assert tdm("play", "--checkpoint", tmp_path / "agent", "--out", tmp_path / "out") == 0
    finally:
        gym.registry.pop("SilentDrive-v0")
    said = " ".join(capsys.readouterr().out.split())
    assert "no video: SilentDrive-v0 has no render mode 'rgb_array'" in said
    assert imageio.imread(tmp_path / "out" / "play.png").std() > 0


def test_a_walker_with_arguments_is_filmed(tmp_path, monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    walker = "tdm/WalkerLine-v0 dof=4 body=0"
    try:
        find_renderer(EnvRef.parse(walker))
    except NoRendererError as error:
        pytest.skip(str(error))
    words = ("--simulator", "--planner", "cem", "--env-id", walker, *SMALL, "--max-steps", "4")
    assert tdm("play", *words, "--out", tmp_path) == 0
    assert (tmp_path / "play.mp4").stat().st_size > 1_000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--human",), "--human needs a screen"),
        (("--simulator",), "needs --planner NAME"),
        (("--simulator", "--planner", "cem"), "no environment: pass --env-id"),
        (("--action-repeat", "2"), "--action-repeat is the simulator's"),
        (("--planner", "cemm"), "did you mean 'cem'"),
        (("--env-seed", "-1"), "--env-seed is -1; expected at least 0"),
        (("--env-id", "Pendulum-v1", "--no-video"), "cartpole-swingup"),
    ],
)
def test_a_mistake_is_one_line(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert tdm("play", *words, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_a_step_is_as_long_as_the_environment_says():
    assert seconds_per_step(EnvRef(CARTPOLE).make()) == pytest.approx(0.01)
    assert seconds_per_step(gym.make("CartPole-v1")) == pytest.approx(0.02)
    silent = gym.make("CartPole-v1")
    silent.unwrapped.metadata = {}
    with pytest.raises(ValueError, match="give it dt"):
        seconds_per_step(silent)
