"""The verdict after training: how far predictions hold, what to plan with, and what is alarming."""

import dataclasses
import io
import json
import math

import numpy as np
import pytest
import torch
from latent_dynamics import LatentModel
from rich.console import Console

from tdm_agents import TDMAgent, make_planner
from tdm_agents.agent.agent_files import AgentSettings
from tdm_agents.cli.verdicts import say_and_keep
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.evaluation.decision_time import milliseconds_per_decision
from tdm_agents.protocols import Step
from tdm_agents.testing import LinearQuadraticModel, recorded_episodes
from tdm_agents.training.train_config import TrainConfig
from tdm_agents.training.verdict import VERDICT_FILE, judge, keep
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.generalist import Generalist
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

CONFIG = TrainConfig(horizons=(1, 3, 5), starts=16, context_steps=2)
PLANNER = make_planner("mppi", horizon=4, num_samples=8, iterations=1)


class Wrong(LinearQuadraticModel):
    """The true model, but for what is added to every imagined observation and reward.

    ``grows`` is added once more at each step, times ten to the power of the step where ``explodes``.
    """

    grows = 0.0
    freezes = False
    explodes_from = None

    def start(self, history, *, horizon):
        self.step_count = 0
        self.first = history.observation[:, -1]
        return super().start(history, horizon=horizon)

    def step(self, state, action, *, generator=None):
        state, step = super().step(state, action, generator=generator)
        self.step_count += 1
        off = torch.full_like(step.reward, self.grows * self.step_count)
        if self.explodes_from is not None and self.step_count >= self.explodes_from:
            off[0] = 1e12
        observation = step.observation
        if observation is not None:
            observation = (self.first if self.freezes else observation) + off[:, None]
        return state, Step(observation, step.reward + off, step.alive)


def wrong(**settings):
    model = Wrong(imagines_observations=settings.pop("imagines_observations", True))
    for name, value in settings.items():
        setattr(model, name, value)
    return model


def verdict_on(model, **more):
    return judge(model, recorded_episodes(), CONFIG, planner=PLANNER, name="mppi", **more)


def spread():
    data = recorded_episodes()
    return np.concatenate([data.episode(e).observation for e in range(data.num_episodes)]).std(0)


def test_a_good_model_holds_as_far_as_was_looked_and_its_planner_stays():
    verdict = verdict_on(wrong(), milliseconds=12.0)
    assert (verdict.judged, verdict.holds, verdict.furthest) == ("observations", 5, 5)
    assert verdict.exploded_at is None and verdict.advised == verdict.horizon == 4
    assert [error.horizon for error in verdict.errors] == [1, 3, 5]
    assert all(error.median < 1e-5 < error.unchanged for error in verdict.errors)
    found, speed = verdict.lines()
    assert "hold up to 5 decisions ahead, the furthest that was looked at" in found
    assert "plan with mppi, horizon 4, as agent.json says" in found
    assert "expect 12 milliseconds per decision (mppi, horizon 4" in speed


def test_a_horizon_beyond_what_was_looked_at_is_said_to_be_unknown():
    further = make_planner("mppi", horizon=9, num_samples=8, iterations=1)
    (found,) = judge(wrong(), recorded_episodes(), CONFIG, planner=further, name="mppi").lines()
    assert "mppi plans 9 ahead, as agent.json says. Nothing is known beyond 5:" in found


def test_a_model_that_drifts_holds_while_it_is_near_and_better_than_that_nothing_changes():
    # off by h * grows at horizon h: the root mean square over two scalars of that in their spreads
    per_step = np.sqrt(np.mean(1 / spread() ** 2))
    every = dataclasses.replace(CONFIG, horizons=(1, 2, 3, 4, 5))
    for share in (0.04, 0.08, 0.11, 0.2):
        model = wrong(grows=share / per_step)
        verdict = judge(model, recorded_episodes(), every, planner=PLANNER, name="mppi")
        assert [e.median for e in verdict.errors] == pytest.approx(share * np.arange(1, 6), rel=1e-3)
        fine = [e.median <= 0.5 and e.median < e.unchanged for e in verdict.errors]
        assert verdict.holds == (fine.index(False) if False in fine else 5)
        assert (verdict.advised or 0) == min(verdict.holds, 4)
        if 0 < verdict.holds < 4:
            assert f"plan with horizon {verdict.holds} (--planner-settings horizon" in verdict.lines()[0]


@pytest.mark.parametrize("settings", [{"freezes": True}, {"grows": 3.0}], ids=["nothing changes", "far off"])
def test_a_useless_model_is_not_to_be_planned_with(settings):
    verdict = verdict_on(wrong(**settings))
    assert verdict.holds == 0 and verdict.advised is None
    assert any(
        "hold at no horizon" in line and "Do not plan with this model" in line for line in verdict.lines()
    )


@pytest.mark.parametrize("imagines_observations", [True, False])
def test_one_starting_point_that_explodes_is_told_loudly_beside_a_fine_median(imagines_observations):
    verdict = verdict_on(wrong(explodes_from=3, imagines_observations=imagines_observations))
    assert verdict.exploded_at == 3 and verdict.holds == verdict.advised == 2
    last = verdict.errors[-1]
    assert last.exploded == 1 and last.rms > 1e9 and last.median < 0.1
    assert verdict.lines()[0].startswith("WARNING: imagination explodes: 1 of 16 starting points")
    assert "within 5 decisions, the first after 3" in verdict.lines()[0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_has_exploded_and_the_file_stays_json(value, tmp_path):
    verdict = verdict_on(wrong(grows=value))
    assert verdict.exploded_at == 1 and verdict.advised is None and math.isinf(verdict.errors[0].rms)
    keep(tmp_path, {"any": verdict})

    def refuse(name):
        raise AssertionError(name)

    kept = json.loads((tmp_path / VERDICT_FILE).read_text(), parse_constant=refuse)
    assert kept["environments"]["any"]["errors"][0]["rms"] is None
    assert kept["environments"]["any"]["lines"] == verdict.lines()


def test_a_model_without_observations_is_judged_by_its_rewards():
    good = verdict_on(wrong(imagines_observations=False))
    assert (good.judged, good.holds) == ("rewards", 5) and good.errors[0].unchanged is None
    assert "nothing changes" not in good.lines()[0]
    bad = verdict_on(wrong(imagines_observations=False, grows=100.0))
    assert bad.holds == 0 and bad.advised is None


def test_without_observations_and_without_rewards_there_is_nothing_to_judge_by():
    data = recorded_episodes()
    steps = [data.episode(e) for e in range(data.num_episodes)]
    flat = dataclasses.replace(
        steps[0],
        **{
            name: np.concatenate([getattr(step, name) for step in steps])
            for name in ("observation", "action", "alive")
        },
        reward=np.zeros(sum(len(step.reward) for step in steps), np.float32),
    )
    offsets = np.cumsum([0, *(len(step.reward) for step in steps)])
    same = Trajectories.from_arrays(flat, offsets=offsets, info=data.info)
    verdict = judge(wrong(imagines_observations=False), same, CONFIG, planner=PLANNER, name="mppi")
    assert verdict.judged == "nothing" and "nothing to judge it by" in verdict.lines()[0]


def test_milliseconds_are_those_of_the_agents_own_planner():
    agent = TDMAgent(LinearQuadraticModel(), PLANNER)
    few = milliseconds_per_decision(agent, recorded_episodes().episode(0))
    assert agent.last_plan.plan.sequence.shape[1] == PLANNER.horizon
    many = TDMAgent(LinearQuadraticModel(), make_planner("mppi", horizon=4, num_samples=8, iterations=100))
    assert 0 < few < milliseconds_per_decision(many, recorded_episodes().episode(0))


TINY = TransformerConfig(
    layers=1, width=16, heads=2, feedforward=16, context=30, tokenizer=TokenizerConfig(bins=64)
)
ONE = {"one": recorded_episodes()}
SEVERAL = ONE | {"levels": recorded_episodes(model=LinearQuadraticModel(choices=3), seed=2)}


@pytest.mark.parametrize(
    ("kind", "config", "data"),
    [
        (MLPWorldModel, MLPConfig(hidden=8, layers=1), ONE),
        (LatentModel, None, ONE),
        (Generalist, TINY, SEVERAL),
    ],
    ids=["mlp", "without observations", "several environments"],
)
def test_every_trainable_model_gets_a_verdict_on_each_of_its_environments(kind, config, data, tmp_path):
    config = config or next(iter(kind.presets().values())).config
    model = kind.build({name: episodes.spec for name, episodes in data.items()}, config, seed=0)
    model.fit(data)
    written, settings = io.StringIO(), AgentSettings("mppi", dataclasses.asdict(PLANNER))
    console = Console(file=written, width=1000)
    verdicts = say_and_keep(
        tmp_path,
        model.eval(),
        data,
        CONFIG,
        planner=PLANNER,
        settings=settings,
        metrics={},
        console=console,
    )
    kept = json.loads((tmp_path / VERDICT_FILE).read_text())["environments"]
    assert kept.keys() == verdicts.keys() == data.keys()
    for name, verdict in verdicts.items():
        assert verdict.milliseconds > 0 and kept[name]["milliseconds"] == verdict.milliseconds
        label = f"{name}: " if len(data) > 1 else ""
        assert all(label + line in written.getvalue() for line in kept[name]["lines"])
    assert ("median error" in written.getvalue()) == any(v.errors for v in verdicts.values())


class Broken(MLPWorldModel):
    def step(self, state, action, *, generator=None):
        state, step = super().step(state, action, generator=generator)
        return state, dataclasses.replace(step, reward=step.reward * math.nan)


def test_a_model_with_which_no_plan_is_found_gets_its_verdict_all_the_same(tmp_path):
    model = Broken.build({"one": ONE["one"].spec}, MLPConfig(hidden=8, layers=1), seed=0)
    model.fit(ONE)
    written = io.StringIO()
    settings = AgentSettings("mppi", dataclasses.asdict(PLANNER))
    verdicts = say_and_keep(
        tmp_path,
        model.eval(),
        ONE,
        CONFIG,
        planner=PLANNER,
        settings=settings,
        metrics={},
        console=Console(file=written, width=1000),
    )
    assert verdicts["one"].milliseconds is None and (tmp_path / VERDICT_FILE).exists()
    assert "the planner finds no plan" in written.getvalue()
