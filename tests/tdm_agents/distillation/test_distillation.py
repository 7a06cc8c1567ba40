"""A student of a slow agent: who acts, what it is shown, what it learns, and that a run goes on exactly."""

import io
import json
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv
from rich.console import Console

from tdm_agents import TDMAgent, make_planner
from tdm_agents.actors.actor import Move
from tdm_agents.actors.agents import AgentActor, AgentFactory
from tdm_agents.actors.functions import FunctionActor
from tdm_agents.actors.simulators import true_dynamics
from tdm_agents.cli.main import main
from tdm_agents.distillation import distiller
from tdm_agents.distillation.distill_config import DistillConfig
from tdm_agents.distillation.distiller import distill
from tdm_agents.distillation.imagined_env import ImaginedEnv, imagining_model
from tdm_agents.distillation.imagined_episodes import Imagination, as_shown
from tdm_agents.distillation.lessons import Lessons
from tdm_agents.distillation.teaching import Lesson
from tdm_agents.environments import EnvRef
from tdm_agents.online.replay import PlayedEpisode
from tdm_agents.protocols import History
from tdm_agents.spaces import action_codec
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel
from tdm_agents.world_models.mlp_policy import MLPPolicyConfig, MLPWithPolicy

PENDULUM = "InvertedPendulum-v5"
SMALL = MLPPolicyConfig(hidden=16, layers=1, policy_hidden=16, policy_layers=1)
FAST = DistillConfig(
    rounds=3,
    envs=2,
    imagined=2,
    imagined_steps=2,
    updates=30,
    batch_size=16,
    max_steps=12,
    evaluate_episodes=1,
)


def spec():
    with gym.make(PENDULUM) as env:
        return spec_of(env.observation_space, env.action_space, terminates=True)


def push_back(observation):
    """A policy that balances the pole: the action in the environment's units, which end at 3."""
    position, angle, speed, turning = observation
    return np.array([np.clip(10.0 * angle + 2.0 * turning + 0.5 * position + speed, -3.0, 3.0)], np.float32)


def silent():
    return Console(file=io.StringIO())


def run(folder, config=FAST, *, teacher=push_back, student=None, planner=None):
    folder.mkdir(exist_ok=True)
    student = MLPWithPolicy(spec(), SMALL) if student is None else student
    planner = make_planner("policy") if planner is None else planner
    return distill(teacher, student, planner, EnvRef(PENDULUM), config, folder, console=silent()), student


# -- who acts, and what is shown -------------------------------------------------------------------------


class Says:
    """An actor that always says the same, and remembers what it is told."""

    action_repeat = 1

    def __init__(self, code):
        self.code = code
        self.told = []

    def act(self, observations, rewards, active):
        codes = np.full((len(active), 1), self.code, np.float32)
        return Move([None] * len(active), list(range(len(active))), 0.0, codes=codes)

    def correct(self, codes):
        self.told.append(codes)

    def stand_aside(self, observations, rewards):
        raise AssertionError("both are asked at every decision")


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_whoever_acts_the_teacher_is_imitated(share):
    teacher, student, asked = Says(0.5), Says(-0.5), []
    lesson = Lesson(
        teacher,
        student,
        action_codec(spec().action_space),
        share=share,
        rng=np.random.default_rng(0),
        asked=lambda: asked.append(len(asked)),
    )
    executed = np.stack([lesson.act([None] * 4, [0.0] * 4, [True] * 4).codes for _ in range(200)])
    assert set(np.unique(executed)) <= {0.5, -0.5}
    assert (executed == 0.5).mean() == pytest.approx(share, abs=0.05)
    assert np.stack(lesson.shown).tolist() == np.full((200, 4, 1), 0.5).tolist()
    assert np.array_equal(np.stack(teacher.told), executed) and np.array_equal(
        np.stack(student.told), executed
    )
    assert len(asked) == 200


def test_an_environment_that_is_over_gets_no_action_and_a_policy_is_read_in_the_planners_units():
    teacher = FunctionActor(lambda _: np.array([1.5], np.float32))  # of 3: half of what is possible
    lesson = Lesson(
        teacher, None, action_codec(spec().action_space), share=1.0, rng=np.random.default_rng(0), asked=int
    )
    move = lesson.act([np.zeros(4)] * 2, [0.0] * 2, [True, False])
    assert move.actions[1] is None and move.actions[0] == pytest.approx(1.5)
    assert lesson.shown[0].tolist() == [[0.5], [0.5]]


def test_what_is_imagined_is_what_the_model_says_around_the_plan():
    model = MLPWorldModel(spec(), MLPConfig(hidden=8, layers=1)).eval()
    actor = AgentActor(TDMAgent(model, make_planner("cem", horizon=4, num_samples=16, iterations=1)), 2)
    imagination = Imagination(actor, candidates=3, steps=2, noise=0.3, seed=0)
    imagination()
    assert imagination.episodes == []  # nothing was planned yet
    actor.act([np.zeros(4), np.ones(4)], [0.0, 0.0], [True, True])
    imagination()
    imagination()  # the same plan is imagined once
    plan = actor.agent.last_plan.plan.sequence
    assert len(imagination.episodes) == 6
    for number, episode in enumerate(imagination.episodes):
        row, candidate = divmod(number, 3)
        length = len(episode.reward)
        assert length == 2 or episode.terminated
        assert episode.observation[0].tolist() == [float(row)] * 4
        close = np.abs(episode.action - plan[row, :length].numpy()).max()
        assert (close == 0.0) == (candidate == 0)
        state = model.start(actor.agent.last_plan.history, horizon=2)
        state = model.take(state, torch.tensor([row]))
        for t in range(length):
            state, step = model.step(state, torch.from_numpy(episode.action[None, t]))
            np.testing.assert_allclose(episode.observation[t + 1], step.observation[0], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(episode.reward[t], step.reward[0], rtol=1e-5, atol=1e-6)


def test_half_of_a_batch_are_examples_and_no_transitions(tmp_path):
    def episode(action):
        return PlayedEpisode(
            np.zeros((6, 4), np.float32),
            np.full((5, 1), action, np.float32),
            np.ones(5, np.float32),
            terminated=True,
        )

    for imitates in (True, False):
        lessons = Lessons(
            tmp_path / str(imitates), spec(), capacity=100, slack=50, fresh=True, imitates=imitates
        )
        shown = as_shown(episode(0.0), np.full((5, 1), 0.9, np.float32))
        assert np.isnan(shown.reward).all()
        lessons.add([episode(-0.5)], [shown])
        batch = lessons.batch(np.random.default_rng(0), 9, 3)
        if not imitates:
            assert batch.example is None and (batch.action[batch.acted] == -0.5).all()
            continue
        assert batch.example.sum() == 5 and len(batch.valid) == 9
        assert (batch.action[batch.example] == 0.9).all()
        transitions = batch.acted[:, :-1] & batch.valid[:, 1:]
        assert not transitions[4:].any() and (batch.action[:4][batch.acted[:4]] == -0.5).all()


# -- episodes that are imagined --------------------------------------------------------------------------


def imagining(repeat=1, **shape):
    """An agent with random weights, whose model says where a decision of ``repeat`` steps leads."""
    model = MLPWorldModel(replace(spec(), action_repeat=repeat), MLPConfig(hidden=8, layers=1)).eval()
    return TDMAgent(model, make_planner("cem", horizon=3, num_samples=8, iterations=1), **shape)


def test_an_imagined_episode_is_what_the_model_says_from_a_real_beginning():
    agent = imagining(repeat=3)
    env = ImaginedEnv(gym.make(PENDULUM), imagining_model(agent))
    with gym.make(PENDULUM) as real:
        first, _ = real.reset(seed=4)
    seen, _ = env.reset(seed=4)
    np.testing.assert_array_equal(seen, first)
    state = agent.model.start(
        History.of_observation(torch.as_tensor(first).float()[None], action_dim=1), horizon=2
    )
    for action in (1.5, -3.0):  # of 3
        state, step = agent.model.step(state, torch.tensor([[action / 3.0]]))
        for held in range(3):
            before = seen
            seen, reward, terminated, truncated, _ = env.step(np.array([action], np.float32))
            assert not truncated and env.observation_space.contains(seen)
            if held < 2:
                assert (reward, terminated) == (0.0, False) and np.array_equal(seen, before)
        np.testing.assert_allclose(seen, step.observation[0].detach(), rtol=1e-5, atol=1e-6)
        assert (reward, terminated) == (pytest.approx(float(step.reward)), not bool(step.alive))


def test_what_is_not_finite_ends_the_imagining_with_a_remedy():
    agent = imagining()
    with torch.no_grad():
        next(agent.model.parameters()).fill_(float("nan"))
    env = ImaginedEnv(gym.make(PENDULUM), agent.model)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"imagined the observation \[nan.*--max-steps"):
        env.step(np.zeros(1, np.float32))


def test_nothing_is_learned_from_what_really_happens(tmp_path, monkeypatch):
    def step(self, action):
        raise AssertionError("a real step")

    monkeypatch.setattr(InvertedPendulumEnv, "step", step)
    monkeypatch.setattr(distiller._Run, "_evaluate", lambda self: [0.0])  # plays real episodes
    result, _ = run(tmp_path, replace(FAST, in_imagination=True), teacher=imagining())
    assert all(row["decisions"] >= FAST.envs for row in result.rounds)


def test_only_a_teacher_that_imagines_can_be_played_in():
    simulated = AgentFactory(true_dynamics(action_repeat=1), make_planner("cem", horizon=2, num_samples=8))
    for teacher in (push_back, simulated):
        with pytest.raises(ValueError, match="no learned model in which episodes can be played; leave out"):
            imagining_model(teacher)


# -- what is learned -------------------------------------------------------------------------------------


def test_a_student_balances_as_its_teacher_does(tmp_path):
    config = replace(FAST, rounds=4, envs=2, updates=250, batch_size=64, max_steps=150, learning_rate=3e-3)
    result, _ = run(tmp_path, config)
    assert not result.interrupted and [row["round"] for row in result.rounds] == [0, 1, 2, 3]
    assert result.rounds[0]["shown_returns"] == [150.0, 150.0]
    assert result.rounds[-1]["student_returns"][0] >= 140.0
    assert result.rounds[-1]["updates"] == 1000
    loaded = TDMAgent.load(tmp_path)
    assert type(loaded.planner).__name__ == "Policy" and loaded.env_id == PENDULUM


def test_dynamics_are_learned_from_what_the_teacher_imagines(tmp_path):
    planner = make_planner("cem", horizon=3, num_samples=8, iterations=1)
    teacher = AgentFactory(true_dynamics(action_repeat=1), planner)
    config = replace(FAST, rounds=2, imagined=4, updates=300, batch_size=64, learning_rate=3e-3)
    student = MLPWorldModel(spec(), MLPConfig(hidden=32, layers=1))
    run(tmp_path, config, teacher=teacher, student=student, planner=planner)
    lessons = Lessons(tmp_path, spec(), capacity=10**6, slack=2 * 2 * 13 * 13, fresh=False, imitates=False)
    lessons.restore(distiller.run_state.load(tmp_path).progress["lessons"])
    pieces = [lessons.transitions.episode(i) for i in range(lessons.transitions.episodes)]
    imagined = [piece for piece in pieces if len(piece.reward) <= 2]
    assert len(imagined) > 50
    now, after, action = (
        torch.from_numpy(np.stack(rows))
        for rows in zip(*((p.observation[0], p.observation[1], p.action[0]) for p in imagined), strict=True)
    )
    _, step = student.step(student.start(History.of_observation(now, action_dim=1), horizon=1), action)
    error = (step.observation - after).std(dim=0) / (after - now).std(dim=0)
    assert error.max() < 0.3


# -- runs that go on -------------------------------------------------------------------------------------


def test_a_run_that_was_interrupted_ends_in_the_same_bits(tmp_path, monkeypatch):
    whole, student = run(tmp_path / "whole")

    shown, rounds = distiller._Run._show, []

    def stop(self, number):
        rounds.append(number)
        if len(rounds) == 2:
            self.interrupted.set()
        return shown(self, number)

    monkeypatch.setattr(distiller._Run, "_show", stop)
    first, _ = run(tmp_path / "parts")
    assert first.interrupted and len(first.rounds) == 1
    second, again = run(tmp_path / "parts")
    assert rounds == [0, 1, 1, 2] and second.rounds == whole.rounds
    for name, weight in student.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    assert json.loads((tmp_path / "parts" / "rounds.json").read_text())["rounds"] == whole.rounds


def test_other_settings_are_refused(tmp_path):
    run(tmp_path, replace(FAST, rounds=1))
    with pytest.raises(ValueError, match=r"rounds=1, now it is 3"):
        run(tmp_path)
    for wrong in (
        {"rounds": 0},
        {"beta": 1.5},
        {"imagined": -1},
        {"window_steps": 1},
        {"learning_rate": 0.0},
    ):
        with pytest.raises(ValueError, match=r"expected|needs at least"):
            replace(FAST, **wrong)


# -- the command -----------------------------------------------------------------------------------------

COMMAND = [
    "distill",
    "--env-id",
    PENDULUM,
    "--rounds",
    "2",
    "--envs",
    "2",
    "--updates",
    "20",
    "--max-steps",
    "10",
]
COMMAND += ["--batch-size", "16", "--evaluate-episodes", "1", "--report-episodes", "1"]
SIMULATOR = "simulator planner=cem horizon=2 num_samples=8 iterations=1"


def test_the_command_ends_with_teacher_and_student_side_by_side(tmp_path, capsys):
    command = [*COMMAND, "--teacher", SIMULATOR, "--out", str(tmp_path)]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "teacher: " in shown.out and "student" in shown.out
    reports = json.loads((tmp_path / "distill.json").read_text())["reports"]
    assert [r["contestant"] for r in reports] == ["teacher: cem on the true simulator", "student"]
    assert TDMAgent.load(tmp_path, planner="mppi", horizon=2, num_samples=8).model.spec.terminates
    assert main([*command, "--beta", "0.1"]) == 2
    assert "beta=0.5, now it is 0.1" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--student", "transformer"], "would imitate the actions that are executed"),
        (["--action-repeat", "3"], "the teacher decides every 1"),
        (["--report-episodes", "-1"], "expected at least 0"),
    ],
)
def test_what_cannot_be_taught_is_refused(options, sentence, tmp_path, capsys):
    assert main([*COMMAND, "--teacher", SIMULATOR, "--out", str(tmp_path), *options]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run.json").exists()


def test_an_environment_is_asked_for_where_the_teacher_names_none(tmp_path, capsys):
    command = ["distill", "--teacher", SIMULATOR, "--out", str(tmp_path)]
    assert main(command) == 2
    assert "names no environment: pass --env-id" in capsys.readouterr().err
