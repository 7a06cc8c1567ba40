import hashlib
import io
import json
import subprocess
import sys
from importlib.metadata import version

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from rich.console import Console

from tdm_agents import SimulatorModel, TDMAgent, evaluate, make_planner, registry
from tdm_agents.actors.agents import AgentFactory
from tdm_agents.actors.functions import UniformActions
from tdm_agents.cli import evaluate as evaluate_command
from tdm_agents.cli import main as command_line
from tdm_agents.cli import planners as planners_command
from tdm_agents.evaluation.progress_bar import ProgressBar
from tdm_agents.evaluation.report import make_report, table, write_report
from tdm_agents.testing import LinearQuadraticModel

CARTPOLE = "dm_control/cartpole-swingup-v0"


class PointMass(gym.Env):
    """The environment that the linear-quadratic model is exact for; its length depends on the seed."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, breaks_at=None):
        self.model, self.breaks_at = LinearQuadraticModel(), breaks_at

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.length = 0, 3 + seed % 4
        self.state = self.np_random.normal(size=2).astype(np.float32)
        return self.state, {}

    def step(self, action):
        assert action in self.action_space
        model, self.steps = self.model, self.steps + 1
        after = model.transition.numpy() @ self.state + model.control.numpy() @ action
        reward = -float(after**2 @ model.cost.numpy()) - model.effort * float(action @ action)
        self.state = (
            after.astype(np.float32) if self.steps != self.breaks_at else np.full(2, np.nan, np.float32)
        )
        return self.state, reward, self.length == 4 and self.steps == 4, self.steps == self.length, {}


def an_agent(**settings):
    small = {"horizon": 4, "num_samples": 12, "num_elites": 4, "iterations": 2}
    return TDMAgent(LinearQuadraticModel(), make_planner("cem", **small | settings))


def proportional(observation):
    return np.clip(-observation[:1] - observation[1:], -1, 1)


# ---------------------------------------------------------------------- episodes


def test_one_episode_equals_the_gymnasium_loop():
    agent, env = an_agent(), PointMass()
    obs, _ = env.reset(seed=7)
    agent.reset(seed=11)
    total, reward, over = 0.0, None, False
    while not over:
        obs, reward, terminated, truncated, _ = env.step(agent.act(obs, reward=reward))
        total, over = total + reward, terminated or truncated
    found = evaluate(agent, PointMass, [7], seed=11)
    assert found.scores == [pytest.approx(total, abs=1e-12)]
    assert found.episodes[0].length == found.episodes[0].decisions == 6


def test_episodes_side_by_side_are_those_of_one_at_a_time():
    # a policy draws nothing, so that the number of environments cannot matter; lengths are 3 to 6
    seeds = [3, 0, 6, 1, 2]
    together = evaluate(proportional, PointMass, seeds)
    for batch in (1, 2, 3):
        apart = evaluate(proportional, PointMass, seeds, batch=batch)
        assert apart.scores == together.scores
        assert [e.length for e in apart.episodes] == [6, 3, 5, 4, 5]
        assert [e.end for e in apart.episodes] == ["truncated"] * 3 + ["terminated", "truncated"]


def test_an_agent_plans_for_all_running_episodes_in_one_call():
    found = evaluate(an_agent(), PointMass, [0, 1, 2])  # lengths 3, 4, 5
    assert found.plan_calls == 5 and found.decisions == 12
    assert [e.decisions for e in found.episodes] == [3, 4, 5]
    assert found.transitions_per_decision == 12 * 4 * 2
    assert found.milliseconds_per_decision > 0 and found.non_finite == 0


def test_the_same_seeds_give_the_same_returns_and_another_agent_seed_others():
    agent = an_agent()
    first = evaluate(agent, PointMass, [0, 1, 2], seed=5)
    assert evaluate(agent, PointMass, [0, 1, 2], seed=5).scores == first.scores
    assert evaluate(agent, PointMass, [0, 1, 2], seed=6).scores != first.scores


def test_a_planner_beats_random_actions():
    seeds = range(8)
    random = evaluate(UniformActions(PointMass.action_space, 0), PointMass, seeds)
    assert np.mean(evaluate(an_agent(), PointMass, seeds).scores) > np.mean(random.scores)
    assert random.transitions_per_decision == 0


def test_recording_shows_what_was_imagined_and_changes_nothing():
    agent = an_agent()
    plain = evaluate(agent, PointMass, [0, 3])
    recorded = evaluate(agent, PointMass, [0, 3], record_horizon=2)
    assert recorded.scores == plain.scores
    for episode in recorded.episodes:
        record = episode.recording
        assert record.observation.shape == (episode.length + 1, 2)
        assert record.action.shape == (episode.length, 1)
        assert record.reward.sum() == pytest.approx(episode.score, rel=1e-5)
        assert record.planned_at.tolist() == list(range(episode.length))
        assert record.imagined.shape == (episode.length, 2, 2)
        # the model is exact, so the first imagined step is what then happened
        np.testing.assert_allclose(record.imagined[:, 0], record.observation[1:], atol=1e-5)
        assert np.isfinite(record.value).all()
    assert plain.episodes[0].recording is None


def test_a_policys_recording_imagines_nothing():
    record = evaluate(proportional, PointMass, [0], record_horizon=3).episodes[0].recording
    assert record.imagined.shape == (3, 0, 2) and np.isnan(record.value).all()


def test_max_steps_cuts_episodes():
    found = evaluate(proportional, PointMass, [0, 3], max_steps=4)
    assert [(e.length, e.end) for e in found.episodes] == [(3, "truncated"), (4, "cut")]


def test_progress_counts_to_its_total():
    ticks = []
    evaluate(an_agent(), PointMass, [3, 7, 11], batch=2, max_steps=6, on_step=ticks.append)
    assert [t.steps for t in ticks] == list(range(1, 13)) and ticks[-1].total == 12
    assert ticks[-1].finished == 3 and ticks[-1].running == 0
    assert ticks[-1].milliseconds_per_decision > 0
    with ProgressBar("cem", Console(file=io.StringIO())) as show:
        for tick in ticks:
            show(tick)


def test_the_simulator_knows_what_will_happen():
    planner = make_planner("random_shooting", horizon=2, num_samples=4)
    factory = AgentFactory(lambda envs: SimulatorModel(envs, action_repeat=2), planner, CARTPOLE)
    found = evaluate(factory, CARTPOLE, [0, 1], max_steps=6, record_horizon=1)
    assert [e.decisions for e in found.episodes] == [3, 3]
    for episode in found.episodes:
        record = episode.recording
        assert record.planned_at.tolist() == [0, 2, 4]
        np.testing.assert_array_equal(record.imagined[:, 0], record.observation[2::2])


def test_a_broken_observation_names_the_episode_and_step():
    with pytest.raises(
        ValueError, match=r"step 2 of the episodes with seeds \[3\]: observation scalar 0 is nan"
    ):
        evaluate(an_agent(), lambda: PointMass(breaks_at=2), [3])


def test_an_environment_of_other_spaces_is_refused_and_closed():
    closed = []

    class Wide(PointMass):
        action_space = spaces.Box(-2.0, 2.0, (1,), np.float32)

        def close(self):
            closed.append(self)

    with pytest.raises(ValueError, match="action_space of the environment"):
        evaluate(an_agent(), Wide, [0, 1])
    assert len(closed) == 2


@pytest.mark.parametrize(
    "arguments", [{"seeds": []}, {"seeds": [0], "batch": 0}, {"seeds": [0], "max_steps": 0}]
)
def test_nothing_to_play_is_refused(arguments):
    with pytest.raises(ValueError, match="expected"):
        evaluate(proportional, PointMass, **arguments)


@pytest.mark.parametrize(
    "space",
    [spaces.Discrete(3, start=-1), spaces.MultiDiscrete([2, 3]), spaces.Box(-2.0, 1.0, (2,))],
    ids=repr,
)
def test_random_actions_are_of_the_space_cover_it_and_repeat(space):
    drawn = [UniformActions(space, 3)(None) for _ in range(2)]
    np.testing.assert_array_equal(*drawn)
    policy = UniformActions(space, 3)
    many = [policy(None) for _ in range(200)]
    assert all(action in space for action in many)
    if isinstance(space, spaces.Box):
        assert np.ptp(many, axis=0).min() > 2.5
    else:
        assert len(np.unique(many, axis=0)) == (3 if isinstance(space, spaces.Discrete) else 6)


def test_random_actions_need_bounds():
    with pytest.raises(ValueError, match="not a bounded Box"):
        UniformActions(PointMass.observation_space)


# ---------------------------------------------------------------------- reports


def test_a_report_says_how_to_repeat_it(tmp_path):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"weights")
    agent = an_agent()
    found = evaluate(agent, PointMass, [4, 5])
    settings = {"planner_settings": agent.planner, "odd": float("nan"), "path": tmp_path}
    report = make_report("cem", found, settings=settings, weights=weights)
    write_report(tmp_path / "report.json", report)
    read = json.loads((tmp_path / "report.json").read_text())
    assert read == report
    assert list(read) == [
        "schema", "kind", "contestant", "env_id", "seeds", "settings", "summary", "episodes", "provenance",
    ]  # fmt: skip
    assert read["seeds"] == [4, 5] and read["env_id"] == "PointMass"
    assert [e["return"] for e in read["episodes"]] == found.scores
    assert read["settings"]["planner_settings"]["horizon"] == 4 and read["settings"]["odd"] is None
    assert read["summary"]["iqm_low"] <= read["summary"]["iqm"] <= read["summary"]["iqm_high"]
    assert read["provenance"]["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert read["provenance"]["versions"]["torch"] == version("torch")
    shown = Console(file=io.StringIO(), width=120)
    shown.print(table([report]))
    assert f"{read['summary']['iqm']:.1f}" in shown.file.getvalue()


def test_a_report_that_is_not_json_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(tmp_path / "report.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------- command line


def tdm(*arguments):
    return command_line.main(list(arguments))


def test_evaluate_from_the_command_line(tmp_path, capsys):
    out = tmp_path / "report.json"
    status = tdm(
        *("evaluate", "--simulator", "--planner", "cem", "--env-id", CARTPOLE, "--episodes", "2"),
        *("--seed-start", "30", "--max-steps", "4", "--action-repeat", "2", "--out", str(out)),
        *("--planner-settings", "horizon", "2", "num-samples", "8", "iterations", "1"),
    )
    assert status == 0, capsys.readouterr().err
    report = json.loads(out.read_text())
    assert report["seeds"] == [30, 31] and report["summary"]["decisions"] == 4
    assert report["settings"]["planner_settings"]["num_samples"] == 8
    said = capsys.readouterr()
    assert f"report: {out}" in said.out and "cem on the true simulator" in said.err


def test_settings_are_json_or_text():
    parsed = evaluate_command.parse_settings({"num-samples": "64", "execute": "mean", "noise_beta": "null"})
    assert parsed == {"num_samples": 64, "execute": "mean", "noise_beta": None}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate"], "--policy MODEL.zip or --random"),
        (["evaluate", "--checkpoint", "nonsense"], "no checkpoint named 'nonsense'"),
        (["evaluate", "--random", "--simulator"], "exclude each other"),
        (["evaluate", "--random"], "pass --env-id"),
        (["evaluate", "--random", "--env-id", "nonsense-v0"], "nonsense"),
        (["evaluate", "--random", "--env-id", CARTPOLE, "--episodes", "0"], "expected at least 1"),
        (["evaluate", "--simulator", "--env-id", CARTPOLE, "--planner", "cemm"], "did you mean 'cem'"),
        (["evalute"], "did you mean 'evaluate'"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, message, capsys, monkeypatch):
    monkeypatch.delenv("TDM_TRACEBACK", raising=False)
    assert tdm(*arguments) == 2
    said = capsys.readouterr().err.strip()
    assert message in said and "Traceback" not in said


@pytest.mark.parametrize("by_flag", [False, True])
def test_a_traceback_is_there_for_who_asks(by_flag, monkeypatch):
    monkeypatch.setenv("TDM_TRACEBACK", "0" if by_flag else "1")
    with pytest.raises(LookupError):
        tdm("evaluate", "--checkpoint", "nonsense", *(["--traceback"] if by_flag else []))


def test_an_interruption_ends_with_130_and_a_sentence(monkeypatch, capsys):
    def interrupt(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(planners_command, "run", interrupt)
    assert tdm("planners") == 130
    assert "interrupted" in capsys.readouterr().err


def test_planners_are_listed_with_settings_and_package(capsys):
    assert tdm("planners", "--json") == 0
    listed = {p["name"]: p for p in json.loads(capsys.readouterr().out)}
    assert {"cem", "mppi", "random_shooting"} <= set(listed)
    assert listed["cem"]["package"] == "tdm-agents" and "num_samples" in listed["cem"]["settings"]
    assert tdm("planners") == 0
    assert "random_shooting" in capsys.readouterr().out


def test_a_planner_that_does_not_import_is_listed_with_its_error(monkeypatch, capsys):
    def load(group, name):
        raise registry.PluginError(f"{name} is broken")

    monkeypatch.setattr(registry, "load", load)
    assert tdm("planners", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["error"].endswith("is broken")


def test_help_lists_the_commands(capsys):
    assert tdm("--help") == 0
    said = capsys.readouterr().out
    assert all(name in said for name in command_line.COMMANDS)


def test_importing_the_package_costs_nothing():
    code = "import sys, tdm_agents; print('torch' in sys.modules, sorted(tdm_agents.__all__))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("False ['RewardFunction', 'SimulatorModel', 'TDMAgent', ")
