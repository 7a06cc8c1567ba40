import json
import os

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from gymnasium import spaces

from tdm_agents import TDMAgent, TransformerWorldModel, make_planner
from tdm_agents.cli.demo import Demo, run
from tdm_agents.cli.main import main
from tdm_agents.environments import EnvRef
from tdm_agents.errors import UnknownNameError
from tdm_agents.evaluation.fastest_threads import fastest_threads
from tdm_agents.evaluation.imagined import moments_of
from tdm_agents.evaluation.video import NoRendererError, find_renderer, render_episode, write_video
from tdm_agents.protocols import ModelSpec
from tdm_agents.world_models.transformer.config import TransformerConfig

CARTPOLE = "dm_control/cartpole-swingup-v0"
STEPS = 40


@pytest.fixture(autouse=True)
def one_thread():
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An agent of the shipped one's kind, with a small transformer that has learned nothing."""
    infinite = np.inf
    spec = ModelSpec(
        observation_space=spaces.Dict(
            {
                "position": spaces.Box(-infinite, infinite, (3,), np.float64),
                "velocity": spaces.Box(-infinite, infinite, (2,), np.float64),
            }
        ),
        action_space=spaces.Box(-1.0, 1.0, (1,), np.float64),
        observation_dim=5,
        action_dim=1,
        action_repeat=4,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = TransformerConfig(layers=1, width=16, heads=2, feedforward=16, context=24)
        model = TransformerWorldModel(spec, config)
    data = torch.randn((256, 5), generator=torch.Generator().manual_seed(0))
    model.tokenizer.fit(data, 0.1 * data, data[:, 0].abs())
    folder = tmp_path_factory.mktemp("checkpoint")
    planner = make_planner("mppi", horizon=4, num_samples=5, iterations=1)
    TDMAgent(model, planner, env_id=CARTPOLE, reward_function=CARTPOLE).save(folder)
    return folder


def demo(checkpoint, out, **changes):
    arguments = {"checkpoint": str(checkpoint), "max_steps": STEPS, "threads": 1, "video": False, "out": out}
    run(Demo(**arguments | changes))
    return json.loads((out / "demo.json").read_text())


def test_plays_three_players_and_keeps_what_repeats_it(checkpoint, tmp_path, capsys):
    report = demo(checkpoint, tmp_path / "out")
    printed = capsys.readouterr().out
    agent, simulator, random = report["players"]
    for player in report["players"]:
        assert player["name"] in printed
        assert f"{player['return']:.1f}" in printed
        assert player["length"] == STEPS
    assert agent["decisions"] == simulator["decisions"] == STEPS / 4
    imagined = 5 * 4 / Demo().replan_every  # transitions a decision
    assert agent["transitions_per_decision"] == simulator["transitions_per_decision"] == imagined
    assert random["transitions_per_decision"] == 0
    # 5 observation scalars, the reward, the separator and 1 action scalar are 8 tokens a transition
    expected = 8 * imagined / agent["milliseconds_per_decision"] * 1e3
    assert agent["tokens_per_second"] == pytest.approx(expected)
    assert simulator["tokens_per_second"] is None
    settings = report["settings"]
    assert settings["planner_settings"]["num_samples"] == 5
    assert settings["env_seed"] == Demo().env_seed
    assert report["provenance"]["machine"]["threads"] == 1
    assert str(tmp_path / "out" / "demo.png") in printed.replace("\n", "")
    assert imageio.imread(tmp_path / "out" / "demo.png").shape[1] == 1440


def test_the_same_seeds_play_the_same_episodes(checkpoint, tmp_path):
    one, other, third = (
        [p["return"] for p in demo(checkpoint, tmp_path / str(i), seed=seed)["players"]]
        for i, seed in enumerate((0, 0, 1))
    )
    assert one == other
    assert one != third


def test_another_planner_by_name_plays_with_the_model_and_with_the_simulator(checkpoint, tmp_path):
    report = demo(checkpoint, tmp_path, planner="random_shooting")
    assert report["settings"]["planner"] == "random_shooting"
    assert {p["transitions_per_decision"] for p in report["players"][:2]} == {128 * 4 / Demo().replan_every}


def test_without_a_renderer_the_video_is_skipped_with_the_remedy(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disable")
    demo(checkpoint, tmp_path, video=True)
    printed = capsys.readouterr().out
    assert "no video: MUJOCO_GL=disable" in printed
    assert "apt-get install libegl1" in printed
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo.json", "demo.png", "tdm-demo.yaml"]


@pytest.mark.parametrize("setting", ["threads", "max_steps"])
def test_refuses_settings_that_make_no_sense(checkpoint, tmp_path, setting):
    with pytest.raises(ValueError, match="is 0; expected at least 1"):
        demo(checkpoint, tmp_path, **{setting: 0})


def test_an_unknown_checkpoint_is_one_line_for_the_user(tmp_path, capsys):
    assert main(["demo", "--checkpoint", "cartpole-swingupp", "--out", str(tmp_path)]) == 2
    assert "no checkpoint named 'cartpole-swingupp'" in capsys.readouterr().err


def test_a_checkpoint_that_names_no_environment_says_what_to_do(checkpoint, tmp_path):
    agent = TDMAgent.load(checkpoint)
    agent.env_id = None
    agent.save(tmp_path / "nameless")
    with pytest.raises(ValueError, match="env_id="):
        demo(tmp_path / "nameless", tmp_path)


def test_an_unknown_planner_is_refused_before_anything_is_played(checkpoint, tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'mppi'"):
        demo(checkpoint, tmp_path, planner="mpppi")


def test_trying_threads_leaves_the_agent_as_it_was(checkpoint):
    agent = TDMAgent.load(checkpoint, seed=3)
    before = agent.generator.get_state()
    best, tried = fastest_threads(agent, torch.zeros(5))
    assert best in tried
    assert tried[1] > 0
    assert best == 1 or tried[best] < tried[1]
    assert torch.equal(agent.generator.get_state(), before)
    assert agent.last_plan is None


@pytest.mark.parametrize(
    ("plans", "horizon", "every", "expected"),
    [
        (250, 25, 1, [0, 25, 50, 125]),
        (60, 25, 1, [0, 25, 30, 35]),
        (10, 25, 1, [0]),
        (1, 1, 1, [0]),
        (125, 25, 2, [0, 13, 26, 62]),
    ],
)
def test_moments_are_whole_horizons_inside_the_episode(plans, horizon, every, expected):
    assert moments_of(plans, horizon, every) == expected


def test_a_video_has_every_frame_at_its_rate(tmp_path):
    frames = [np.full((48, 64, 3), 10 * i, np.uint8) for i in range(20)]
    write_video(tmp_path / "video.mp4", frames, fps=25.0)
    with imageio.get_reader(tmp_path / "video.mp4") as video:
        assert video.get_meta_data()["fps"] == 25.0
        seen = [int(frame.mean()) for frame in video]
    assert len(seen) == 20
    assert np.abs(np.array(seen) - 10 * np.arange(20)).max() < 8


def test_a_video_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no frames"):
        write_video(tmp_path / "video.mp4", [], fps=25.0)


@pytest.mark.parametrize("value", ["disable", "off", "0"])
def test_rendering_that_the_user_switched_off_stays_off(value):
    with pytest.raises(NoRendererError, match=f"MUJOCO_GL={value} switches rendering off"):
        find_renderer(EnvRef(CARTPOLE), {"MUJOCO_GL": value})


def test_a_backend_that_does_not_work_is_named_with_the_remedy():
    environ = {**os.environ, "MUJOCO_GL": "no-such-backend"}
    with pytest.raises(NoRendererError, match=r"no-such-backend: .*libosmesa6"):
        find_renderer(EnvRef(CARTPOLE), environ)


def test_renders_an_episode_again_and_refuses_another_one(tmp_path):
    environ = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    try:
        backend = find_renderer(EnvRef(CARTPOLE), environ)
    except NoRendererError as error:
        pytest.skip(str(error))
    actions = np.ones((12, 1), np.float32)
    with pytest.raises(RuntimeError, match=r"the replay earned .*, the episode 77"):
        render_episode(tmp_path / "no.mp4", EnvRef(CARTPOLE), 3, actions, score=77.0, backend=backend)
    assert not list(tmp_path.iterdir())
    import gymnasium as gym

    env = gym.make("tdm_envs:" + CARTPOLE)
    env.reset(seed=3)
    score = sum(float(env.step(a)[1]) for a in actions)
    render_episode(tmp_path / "new" / "yes.mp4", EnvRef(CARTPOLE), 3, actions, score=score, backend=backend)
    with imageio.get_reader(tmp_path / "new" / "yes.mp4") as video:
        assert video.get_meta_data()["fps"] == 25.0
        assert sum(1 for _ in video) == 1 + 12 // 4
