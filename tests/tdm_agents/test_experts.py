"""Experts: planners with tuned settings, and policies of Stable-Baselines3."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import PendulumEnv
from stable_baselines3 import PPO

from tdm_agents.actors.behaviour import PlannerPolicy
from tdm_agents.actors.tuned import EXPERTS, UnknownExpertError, expert, expert_for
from tdm_agents.cli.main import main
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.episode import play
from tdm_agents.collection.seeds import COLLECTION_FIRST, EVALUATION_LAST
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import EnvRef, make_env
from tdm_agents.experts.reinforcement import Evaluated, Training, train
from tdm_agents.registry import PLANNERS, load, present_settings
from tdm_envs.walkers import FAMILIES

RESULTS = Path(__file__).parents[2] / "benchmarks/results"
PENDULUM = Training(
    env=EnvRef("Pendulum-v1"),
    steps=128,
    num_envs=2,
    evaluate_every=64,
    evaluation_episodes=1,
    settings={"n_steps": 32, "batch_size": 64, "n_epochs": 1},
)


def environment(one):
    return make_env(one.env_id, **({"dof": 4, "body": 1} if one.name.startswith("walker-l") else {}))


def test_every_family_and_the_suite_tasks_have_an_expert():
    assert set(EXPERTS) == {
        *(f"walker-{family}" for family in FAMILIES),
        "cartpole-swingup",
        "walker-stand",
        "humanoid-stand",
    }
    for name, one in EXPERTS.items():
        assert (
            expert(name)
            is expert_for(EnvRef(one.env_id))
            is expert_for(EnvRef(one.env_id, {"dof": 4}))
            is one
        )
        assert one.make_planner().horizon == one.settings["horizon"]


def test_the_results_are_of_the_experts_that_there_are():
    walkers, suite = (json.loads((RESULTS / f"expert_{of}.json").read_text()) for of in ("walkers", "suite"))
    measured = [*walkers["experts"].values(), *(one["expert"] for one in suite["results"])]
    for one in measured:  # some were measured when settings had other names
        one["settings"] = present_settings(load(PLANNERS, one["planner"]), one["settings"])
    there_are = json.loads(json.dumps({name: asdict(one) for name, one in EXPERTS.items()}))
    assert {one["name"]: one for one in measured} == there_are


def test_no_name_is_cut_off_in_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["experts", "list"]) == 0
    shown = capsys.readouterr().out
    assert "…" not in shown
    for one in EXPERTS.values():
        assert f" {one.name} " in shown and f" {one.env_id} " in shown


@pytest.mark.parametrize("name", ["walker-line", "cartpole-swingup"])
def test_an_expert_acts_in_its_environment(name):
    one = expert(name)
    env = environment(one)
    agent = one.make_agent(env)
    assert agent.model.spec.action_repeat == one.action_repeat
    observation, _ = env.reset(seed=10_000)
    agent.reset()
    for _ in range(one.action_repeat + 1):  # the second decision is warm
        observation, *_ = env.step(agent.act(observation))


def test_an_expert_is_a_policy_to_collect_with():
    one = expert("walker-line")
    policy = one.make_policy()
    assert isinstance(policy, PlannerPolicy)
    assert policy.name == "walker-line"
    dataset = DatasetSpec(
        env=EnvRef(one.env_id, {"dof": 4, "body": 1}),
        mix=((policy, 1),),
        action_repeat=one.action_repeat,
        max_steps=7,
    )
    episode = play(dataset.make_env(), dataset, policy, 0)
    assert len(episode.reward) == 7
    assert (episode.action[: one.action_repeat] == episode.action[0]).all()


def test_the_environments_expert_is_evaluated(tmp_path, capsys):
    report = tmp_path / "report.json"
    where = ["--env-id", "tdm/WalkerLine-v0 dof=4 body=1", "--episodes", "1", "--max-steps", "7"]
    plans = ["--simulator", "--planner", "expert"]
    assert main(["evaluate", *plans, *where, "--out", str(report)]) == 0
    settings = json.loads(report.read_text())["settings"]
    one = expert("walker-line")
    assert settings["action_repeat"] == one.action_repeat
    assert settings["guide"] == one.guide
    assert settings["planner_settings"].items() >= one.settings.items()
    assert main(["evaluate", *plans, "--env-id", "Pendulum-v1"]) == 2
    assert "no expert for 'Pendulum-v1'; there are some for" in capsys.readouterr().err
    assert main(["evaluate", *plans, *where, "--checkpoint", "cartpole-swingup"]) == 2
    assert "planner=expert has settings of its own; leave out like=" in capsys.readouterr().err


def test_an_expert_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(UnknownExpertError, match="did you mean 'walker-tree'"):
        expert("walker-treee")
    with pytest.raises(UnknownExpertError, match="no expert for 'Hopper-v5'; there are some for tdm/"):
        expert_for(EnvRef("Hopper-v5"))


def test_the_best_policy_is_kept_with_how_it_came_about(tmp_path):
    told = []
    found = train(PENDULUM, tmp_path, watch=told.append)
    assert found == told
    assert [one.steps for one in found] == [64, 128]
    best = max(one.mean_return for one in found)
    assert [one.best for one in found] == [True, found[1].mean_return > found[0].mean_return]
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["training"]["env_id"] == "Pendulum-v1"
    assert max(one["mean_return"] for one in record["evaluations"]) == best
    assert list(tmp_path.glob("PPO_*/events*")) or list(tmp_path.glob("ppo_*/events*"))
    assert PPO.load(tmp_path / "best.zip").observation_space.shape == (3,)
    with pytest.raises(FileExistsError, match=r"best\.zip exists; choose another folder, or remove it"):
        train(PENDULUM, tmp_path)


def test_what_was_done_in_training_is_kept_as_data(tmp_path):
    found = train(replace(PENDULUM, steps=640, evaluate_every=64, record=True), tmp_path)
    plain = train(replace(PENDULUM, steps=640, evaluate_every=64), tmp_path / "plain")
    assert [one.mean_return for one in found] == [one.mean_return for one in plain]  # it changes nothing
    policies = [path.stem for path in sorted((tmp_path / "policies").glob("*.zip"))]
    assert policies == [f"{64 * k:09}" for k in range(1, 11)]
    done = Trajectories.from_minari(tmp_path / "replay/data")
    assert done.num_decisions == 640 and done.info.env_id == "Pendulum-v1"
    assert sorted(len(one.reward) - 1 for one in done.iterate()) == [120, 120, 200, 200]  # 2 x (200 + 120)
    for episode in done.iterate():  # the rewards are those of the states and actions beside them
        angle = np.arctan2(episode.observation[:-1, 1], episode.observation[:-1, 0])
        torque = 2 * episode.action[:-1, 0]
        cost = angle**2 + 0.1 * episode.observation[:-1, 2] ** 2 + 0.001 * torque**2
        np.testing.assert_allclose(episode.reward[1:], -cost, atol=1e-3)
    first, best = found[0].mean_return, max(one.mean_return for one in found)
    until = next(one.steps for one in found if one.mean_return >= first + (best - first) / 3)
    assert (tmp_path / "medium.zip").read_bytes() == (tmp_path / f"policies/{until:09}.zip").read_bytes()
    early = tmp_path / "medium-replay/data"
    assert early.exists() == (until >= 400)
    if early.exists():
        assert Trajectories.from_minari(early).num_decisions == (400 if until < 640 else 640)
    assert PPO.load(tmp_path / "medium.zip").observation_space.shape == (3,)


@pytest.mark.parametrize(("algorithm", "num_envs"), [("ppo", 2), ("sac", 1)])
def test_no_episode_of_training_begins_as_one_of_an_evaluation(tmp_path, monkeypatch, algorithm, num_envs):
    seeds, reset = [], PendulumEnv.reset

    def told(self, *, seed=None, options=None):
        seeds.append(seed)
        return reset(self, seed=seed, options=options)

    monkeypatch.setattr(PendulumEnv, "reset", told)
    settings = PENDULUM.settings if algorithm == "ppo" else {"learning_starts": 2, "buffer_size": 10}
    train(replace(PENDULUM, algorithm=algorithm, num_envs=num_envs, steps=4, settings=settings), tmp_path)
    given = {seed for seed in seeds if seed is not None}
    assert {COLLECTION_FIRST + number for number in range(num_envs)} <= given
    assert not any(seed <= EVALUATION_LAST for seed in given)


def test_training_is_repeated_by_its_seed(tmp_path):
    first, second = (train(PENDULUM, tmp_path / name) for name in ("a", "b"))
    assert [one.mean_return for one in first] == [one.mean_return for one in second]


def test_what_was_kept_is_whole_when_training_is_interrupted(tmp_path):
    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(PENDULUM, tmp_path, watch=interrupt)
    assert PPO.load(tmp_path / "best.zip").action_space == gym.make("Pendulum-v1").action_space
    assert len(json.loads((tmp_path / "training.json").read_text())["evaluations"]) == 1
    assert not list(tmp_path.glob(".*partial"))


def test_cpu_time_ends_training_and_the_end_is_evaluated(tmp_path):
    spent = Training(env=EnvRef("Pendulum-v1"), cpu_seconds=1e-3, num_envs=2, evaluation_episodes=1)
    (only,) = train(spent, tmp_path)
    assert only.steps == 2
    assert only.best


def test_sac_and_dictionaries_of_observations(tmp_path):
    training = Training(
        env=EnvRef("dm_control/cartpole-swingup-v0"),
        algorithm="sac",
        steps=4,
        num_envs=1,
        evaluation_episodes=1,
        settings={"learning_starts": 2, "buffer_size": 10},
    )
    assert train(training, tmp_path)[-1].steps == 4


def test_the_command_trains_and_lists(tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["experts", "train", "--out", str(out), "--env-id", "tdm/WalkerLine-v0 dof=4 body=1"]
    settings = ["--settings", "n-steps", "8", "batch-size", "16"]
    small = ["--steps", "16", "--num-envs", "2", "--evaluation-episodes", "1"]
    assert main([*arguments, *settings, *small]) == 0
    assert (out / "best.zip").is_file()
    assert "after 16 steps" in capsys.readouterr().out
    assert main([*arguments, *settings, *small]) == 2
    assert "choose another folder" in capsys.readouterr().err
    assert main(["experts", "list", "--json"]) == 0
    assert {one["name"] for one in json.loads(capsys.readouterr().out)} == set(EXPERTS)


def test_ctrl_c_says_what_is_kept(tmp_path, capsys, monkeypatch):
    def interrupted(training, out, *, watch):
        watch(Evaluated(steps=64, cpu_seconds=1.0, mean_return=-7.0, best=True))
        raise KeyboardInterrupt

    monkeypatch.setattr("tdm_agents.experts.reinforcement.train", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main(["experts", "train", "--out", str(tmp_path), "--env-id", "Pendulum-v1"])
    assert stopped.value.code == 130
    printed = capsys.readouterr().out
    assert f"Stopped. Mean return -7.0 after 64 steps is kept in {tmp_path / 'best.zip'}." in printed


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"algorithm": "dqn"}, "algorithm is 'dqn'; expected one of ppo, sac"),
        ({"steps": 0}, "steps is 0; expected at least 1"),
        ({"cpu_seconds": 0.0}, "cpu_seconds is 0.0; expected more than 0, or None"),
        ({"seed": -1}, "seed is -1; expected at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError) as error:
        Training(**({"env": EnvRef("Pendulum-v1")} | wrong))
    assert message in str(error.value)


def test_sac_is_refused_where_actions_are_discrete(tmp_path):
    with pytest.raises(ValueError, match="sac acts in a Box, and CartPole-v1 has Discrete"):
        train(Training(env=EnvRef("CartPole-v1"), algorithm="sac"), tmp_path)
    assert not (tmp_path / "best.zip").exists()


def test_policies_of_several_environments_are_trained_side_by_side(tmp_path, capsys):
    settings = ["n-steps", "32", "batch-size", "64", "n-epochs", "1"]
    few = ["--steps", "128", "--num-envs", "2", "--evaluate-every", "64", "--evaluation-episodes", "1"]
    words = ["experts", "train", *few, "--settings", *settings, "--out", str(tmp_path / "many")]
    envs = ["--env-id", "Pendulum-v1", "--env-id", "Pendulum-v1 g=9.0"]
    assert main([*words, *envs, "--workers", "2"]) == 0
    assert capsys.readouterr().out.count("best.zip") == 2
    alone = train(PENDULUM, tmp_path / "alone")
    record = tmp_path / "many" / "Pendulum-v1" / "training.json"
    together = json.loads(record.read_text())
    assert together["finished"]
    assert [e["mean_return"] for e in together["evaluations"]] == [e.mean_return for e in alone]
    # one that was not finished begins again; the other is left alone
    record.write_text(json.dumps({**together, "finished": False, "evaluations": []}))
    other = tmp_path / "many" / "Pendulum-v1-g9.0" / "best.zip"
    before = other.stat().st_mtime_ns
    assert main([*words, *envs]) == 0
    assert json.loads(record.read_text())["evaluations"][0]["mean_return"] == alone[0].mean_return
    assert other.stat().st_mtime_ns == before
    # another training in the same folder is refused
    assert main([*words, *envs, "--seed", "1"]) == 2
    assert "best.zip exists; choose another folder" in capsys.readouterr().err
