"""Studies whose data are of policies that learn: they begin again after an interruption, to the same end."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_study
from rich.console import Console

from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.entry_policy import ActorPolicy
from tdm_agents.collection.pool import WorkerPool
from tdm_agents.collection.workers import one_thread
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import EnvRef
from tdm_agents.errors import TDMError
from tdm_agents.studies.forecast import forecast
from tdm_agents.studies.running import opened, run
from tdm_agents.studies.stage_products import products_of
from tdm_agents.studies.stages import Collect, Evaluate, Figure, Plan, Protocol, Reinforce, Study, Train

ENV = EnvRef("Pendulum-v1")
POLICIES = Reinforce(
    name="policies",
    env=ENV,
    algorithm="ppo",
    steps=400,
    evaluate_every=200,
    settings={"n_steps": 100, "n_epochs": 1},
)


def plan(policies=POLICIES):
    best = f"{{{policies.name}}}/best.zip"
    actor = ActorPolicy(best, noise_sds=(0.0,), burst_episodes=0.0, name="best")
    data = DatasetSpec(env=ENV, mix=((actor, 2),), max_steps=20)
    everywhere = {"envs": (ENV,), "protocol": Protocol(episodes=2, batch=2, max_steps=10)}
    recipe = replace(tiny_study.RECIPE, action_repeat=1)
    return Plan(
        stages=(
            policies,
            Collect(name="data", datasets=(data,)),
            Train(name="model", data=(policies.name,), only="replay", recipe=recipe),
            Evaluate(name="random", label="random", line="random", role="random", **everywhere),
            Evaluate(name="best", label="best", line=best, role="other", **everywhere),
        ),
        figure=Figure(title="Policies"),
    )


STUDY = Study(name="policies", paper="none", question="Does it run?", plan=lambda _size: plan())


def do(out):
    return run(
        opened(STUDY, "smoke", out),
        adopted={},
        hands=WorkerPool(1, one_thread),
        device="cpu",
        threads=1,
        console=Console(file=open(os.devnull, "w")),
    )


def report(folder):
    """A report without what tells when and where it was made."""
    value = json.loads((folder / "results.json").read_text())
    return {name: part for name, part in value.items() if name not in ("provenance", "origins", "costs")}


def test_policies_are_data_and_players_and_begin_again_after_an_interruption(tmp_path):
    expected = forecast(opened(STUDY, "smoke", tmp_path / "whole"), device="cpu", workers=1, threads=1)
    assert [one.state for one in expected] == ["missing"] * 5
    assert all(0.0 < one.seconds < 300.0 for one in expected)
    whole = do(tmp_path / "whole")
    products = opened(STUDY, "smoke", tmp_path / "whole").products
    replay = Trajectories.from_minari(products["policies"].files / "replay/data", action_repeat=1)
    assert replay.num_decisions == 400
    assert [step for step, _ in products["policies"].result()["returns"]] == [200, 400]
    there = Trajectories.from_minari(products["data"].files / "data", action_repeat=1)
    assert (there.num_episodes, there.num_decisions) == (2, 40)

    begun = opened(STUDY, "smoke", tmp_path / "again").products["policies"].files
    begun.mkdir(parents=True)
    record = json.loads((products["policies"].files / "training.json").read_text())
    (begun / "training.json").write_text(json.dumps(record | {"finished": False}))
    (begun / "best.zip").write_bytes(b"half a policy")
    assert report(do(tmp_path / "again")) == report(whole)


def keys(policies):
    return {name: one.key for name, one in products_of(plan(policies).stages, Path("out")).items()}


@pytest.mark.parametrize("change", [{"steps": 800}, {"settings": {"n_steps": 200}}, {"seed": 1}])
def test_what_policies_depend_on_is_made_anew_with_all_that_reads_them(change):
    before, after = keys(POLICIES), keys(replace(POLICIES, **change))
    assert {name for name in before if before[name] != after[name]} == {"policies", "data", "model", "best"}


def test_the_name_of_policies_is_no_part_of_what_depends_on_them():
    before, after = keys(POLICIES), keys(replace(POLICIES, name="others"))
    assert before.pop("policies") == after.pop("others")
    assert before == after


def test_a_training_says_which_data_of_policies_it_reads():
    policies, _, model, *_ = plan().stages
    for only in (None, "best"):
        with pytest.raises(TDMError, match="of the policies policies; expected replay or medium-replay"):
            Plan(stages=(policies, replace(model, only=only)), figure=Figure(title="Policies"))


def test_who_is_killed_before_the_first_policy_is_recorded_begins_again(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tdm_agents.experts.reinforcement._Keeper._evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        do(tmp_path)
    files = opened(STUDY, "smoke", tmp_path).products["policies"].files
    (files / "best.zip").write_bytes(b"half a policy")
    monkeypatch.undo()
    do(tmp_path)
    assert opened(STUDY, "smoke", tmp_path).finished


def test_a_search_is_expected_to_take_longer_with_more_beams(tmp_path):
    def seconds(beams):
        line = f"{{model}} planner=beam_search level=token horizon=3 beam_width={beams}"
        search = Evaluate(
            name="search", label="search", line=line, envs=(ENV,), protocol=Protocol(episodes=2, batch=2)
        )
        recipe = replace(tiny_study.RECIPE, model="transformer", settings={}, action_repeat=1)
        stages = [replace(s, recipe=recipe) if isinstance(s, Train) else s for s in plan().stages]
        whole = Plan(stages=(*stages, search), figure=Figure(title="Search"))
        one = opened(replace(STUDY, plan=lambda _size: whole), "smoke", tmp_path)
        return forecast(one, device="cpu", workers=1, threads=1)[-1].seconds

    assert seconds(64) > 4.0 * seconds(2)
