"""An agent with a deadline: it keeps to it, says so, and is saved and loaded with it."""

import json
import time

import gymnasium as gym
import numpy as np
import pytest
from differential_evolution import DifferentialEvolution

from tdm_agents import TDMAgent, evaluate, make_planner
from tdm_agents.actors.enter import enter
from tdm_agents.actors.entries import parse_entry
from tdm_agents.environments import EnvRef
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.storage import CheckpointError
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel

PENDULUM = "Pendulum-v1"
LONG = {"horizon": 30, "num_samples": 400, "iterations": 50}


def model():
    with gym.make(PENDULUM) as env:
        spec = spec_of(env.observation_space, env.action_space, action_repeat=1)
    return MLPWorldModel(spec, MLPConfig()).eval()


class SlowMLP(MLPWorldModel):
    """Every imagined step takes at least ten milliseconds."""

    def step(self, state, action, *, generator=None):
        time.sleep(0.01)
        return super().step(state, action, generator=generator)


def slow():
    fast = model()
    return SlowMLP(fast.spec, fast.config).eval()


def test_it_decides_in_a_fraction_of_the_time_that_it_would_take():
    agent = TDMAgent(slow(), make_planner("mppi", **LONG), deadline=0.15)
    with gym.make(PENDULUM) as env:
        obs, _ = env.reset(seed=0)
        agent.reset()
        views = []
        for _ in range(4):
            obs, *_ = env.step(agent.act(obs))
            views.append(agent.last_plan)
    whole = 30 * 50 * 10.0  # milliseconds, at the least
    assert max(view.milliseconds for view in views) < 0.5 * whole
    for view in views:
        assert view.plan.stats["iterations"] == 1.0
        assert 1.0 <= view.plan.stats["steps"] < 30.0  # fewer than a rollout fit
        # `late` is measured from the beginning of the decision, a little before `milliseconds`
        assert view.late == pytest.approx(view.milliseconds / 1e3 - 0.15, abs=0.05)


def test_without_one_nothing_is_late():
    agent = TDMAgent(model(), make_planner("cem", horizon=2, num_samples=16, iterations=1))
    agent.reset()
    agent.act(np.array([1.0, 0.0, 0.0], np.float32))
    assert agent.deadline is None and agent.last_plan.late == 0.0
    assert "steps" not in agent.last_plan.plan.stats


def test_reports_count_what_was_late():
    planner = make_planner("cem", horizon=4, num_samples=16, iterations=1)
    hurried = evaluate(TDMAgent(slow(), planner, deadline=0.001), PENDULUM, [0, 1], max_steps=3)
    assert [episode.late for episode in hurried.episodes] == [3, 3]
    patient = evaluate(TDMAgent(slow(), planner, deadline=60.0), PENDULUM, [0, 1], max_steps=3)
    assert [episode.late for episode in patient.episodes] == [0, 0]


def test_it_is_saved_loaded_and_entered(tmp_path):
    TDMAgent(model(), make_planner("mppi"), env_id=PENDULUM, deadline=0.04).save(tmp_path)
    assert TDMAgent.load(tmp_path).deadline == 0.04
    assert TDMAgent.load(tmp_path, deadline=0.1).deadline == 0.1
    entered = enter(parse_entry(f"{tmp_path} deadline=0.02"), EnvRef(PENDULUM))
    assert entered.contestant.deadline == 0.02 and entered.settings["deadline"] == 0.02
    simulated = enter(parse_entry("simulator planner=cem deadline=0.5"), EnvRef("InvertedPendulum-v5"))
    assert simulated.contestant.deadline == 0.5

    path = tmp_path / "agent.json"
    value = json.loads(path.read_text())
    del value["deadline"]  # as of earlier versions
    path.write_text(json.dumps(value))
    assert TDMAgent.load(tmp_path).deadline is None
    for wrong in (0, -1.0, "soon", True):
        path.write_text(json.dumps({**value, "deadline": wrong}))
        with pytest.raises(CheckpointError, match="deadline"):
            TDMAgent.load(tmp_path)


@pytest.mark.parametrize(
    ("deadline", "error", "sentence"),
    [
        (0.0, ValueError, "more than 0"),
        (-1.0, ValueError, "more than 0"),
        (float("inf"), ValueError, "more than 0"),
        (float("nan"), ValueError, "more than 0"),
        ("0.04", TypeError, "seconds per decision"),
        (True, TypeError, "seconds per decision"),
    ],
)
def test_what_is_no_time_is_refused(deadline, error, sentence):
    with pytest.raises(error, match=sentence):
        TDMAgent(model(), make_planner("cem"), deadline=deadline)


def test_a_planner_that_cannot_stop_early_is_refused():
    with pytest.raises(TypeError, match="DifferentialEvolution cannot stop early"):
        TDMAgent(model(), DifferentialEvolution(), deadline=0.04)
