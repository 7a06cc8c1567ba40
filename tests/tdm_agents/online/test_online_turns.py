"""Online training in several environments with one model."""

from dataclasses import dataclass

import gymnasium as gym
import pytest
from small_online import TINY, online, result, rows

from tdm_agents import TDMAgent
from tdm_agents.cli.main import main
from tdm_agents.cli.online import Online, environments
from tdm_agents.cli.training_table import online_table
from tdm_agents.online.turns import next_task
from tdm_agents.storage import CheckpointError
from tdm_agents.world_models.tdmpc2.multitask import MultitaskTDMPC2

TWO = ("Pendulum-v1", "MountainCarContinuous-v0")
SEVERAL = {"model": "tdmpc2-multitask", "model_settings": TINY | {"task-size": "8"}, "seed_decisions": 80}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("tasks") / "run"
    return out, online(out, TWO, steps=320, **SEVERAL)


def test_environments_take_turns_and_share_one_model(undisturbed):
    out, done = undisturbed
    assert done.counts.of_task == dict.fromkeys(TWO, 80) and done.counts.updates == 160
    episodes, evaluations = rows(out).values()
    assert [row["environment"] for row in episodes] == [*TWO] * 4
    assert [row["random"] for row in episodes] == [True] * 4 + [False] * 4
    assert [row["environment"] for row in evaluations[-2:]] == [*TWO]
    assert evaluations[-1]["env_steps"] == evaluations[-2]["env_steps"] == 320
    assert list(done.scores) == [score for row in evaluations[-2:] for score in row["returns"]]
    assert MultitaskTDMPC2.load(out).environments == TWO
    for name in TWO:
        env, agent = gym.make(name), TDMAgent.load(out, env_id=name)
        agent.reset()
        assert env.action_space.contains(agent.act(env.reset(seed=0)[0]))
    assert not agent.planner.explore


def test_an_interrupted_run_goes_on_to_the_same_bits(undisturbed, tmp_path):
    online(tmp_path, TWO, steps=200, **SEVERAL)
    online(tmp_path, TWO, steps=320, **SEVERAL)
    assert rows(tmp_path)["episodes"] == rows(undisturbed[0])["episodes"]
    assert result(tmp_path)[1] == result(undisturbed[0])[1]


def test_the_environments_are_part_of_a_run(undisturbed):
    with pytest.raises(ValueError, match="holds another run"):
        online(undisturbed[0], TWO[::-1], steps=320, **SEVERAL)
    with pytest.raises(ValueError, match="holds another run: weights"):
        online(undisturbed[0], TWO, steps=320, weights={TWO[0]: 2, TWO[1]: 1}, **SEVERAL)


def test_an_environment_with_twice_the_weight_gets_twice_the_decisions(tmp_path):
    done = online(tmp_path, TWO, steps=240, weights={TWO[0]: 2, TWO[1]: 1}, **SEVERAL)
    assert done.counts.of_task == {TWO[0]: 80, TWO[1]: 40}


@dataclass
class Wanting:
    name: str
    share: float


def test_the_one_that_had_the_least_of_its_share_is_next():
    tasks = [Wanting("a", 0.25), Wanting("b", 0.75)]
    assert next_task(tasks, {}).name == "a"
    assert next_task(tasks, {"a": 10, "b": 20}).name == "b"
    assert next_task(tasks, {"a": 10, "b": 40}).name == "a"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("data")
    few = ("--random-episodes", "3", "--planner-episodes", "0", "--max-steps", "40", "--action-repeat", "2")
    for number, name in enumerate(TWO):
        assert main(["collect", "--env-id", name, *few, "--out", str(out / str(number))]) == 0
    return [out / str(number) / "data" for number in range(2)]


def test_data_of_several_environments_train_one_model_offline_and_online_after(data, tmp_path):
    settings = [word for pair in SEVERAL["model_settings"].items() for word in pair]
    learn = ["train", "--model", "tdmpc2-multitask", "--preset", "1m", "--model-settings", *settings]
    learn += [
        "--data",
        *map(str, data),
        "--out",
        str(tmp_path / "offline"),
        "--steps",
        "6",
        "--batch-size",
        "8",
    ]
    learn += ["--evaluate-every", "3", "--warmup-steps", "0", "--held-out-fraction", "0.34"]
    learn += ["--horizons", "1", "5", "--starts", "4"]
    assert main(learn) == 0
    assert MultitaskTDMPC2.load(tmp_path / "offline").environments == TWO
    play = ["evaluate", "--checkpoint", str(tmp_path / "offline"), "--env-id", TWO[1], "--episodes", "1"]
    play += ["--planner-settings", "num-samples", "16", "num-policy", "4", "num-elites", "8"]
    assert main([*play, "--max-steps", "4"]) == 0
    own = {**SEVERAL, "seed_decisions": None}
    done = online(tmp_path / "online", TWO, steps=80, data=tuple(data), init_from=tmp_path / "offline", **own)
    assert done.counts.given == 120 and done.counts.updates == 120 + 40
    assert not any(row["random"] for row in rows(tmp_path / "online")["episodes"])
    with pytest.raises(
        ValueError, match=r"--data holds episodes of MountainCar.*; expected some of Pendulum"
    ):
        online(tmp_path / "wrong", ("Pendulum-v1", "InvertedPendulum-v5"), data=(data[1],), **own)


def test_one_more_environment_is_learned_by_what_knows_others(undisturbed, tmp_path):
    few = SEVERAL | {"seed_decisions": 10}
    done = online(tmp_path, ("Pendulum-v1",), steps=40, init_from=undisturbed[0], **few)
    assert done.counts.decisions == 20
    with pytest.raises(CheckpointError, match="does not fit: it is a MultitaskTDMPC2, not a TDMPC2"):
        online(tmp_path / "other", "Pendulum-v1", init_from=undisturbed[0])


def test_what_makes_no_sense_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected at least one environment, and none twice"):
        online(tmp_path, ("Pendulum-v1", "Pendulum-v1"), **SEVERAL)
    with pytest.raises(ValueError, match="weights are for Hopper-v5; expected one for each of Pendulum-v1"):
        online(tmp_path, TWO, weights={"Hopper-v5": 1.0}, **SEVERAL)
    with pytest.raises(ValueError, match=r"buffer_size is 40 \(20 for Pendulum-v1\), and 1 episodes"):
        online(tmp_path / "small", TWO, buffer_size=40, **SEVERAL)
    with pytest.raises(ValueError, match="TDMPC2 is a model of one environment"):
        online(tmp_path / "one", TWO)


def test_pixels_are_an_environment_of_their_own(tmp_path):
    args = Online(("mine:dots/Dot-v0 beside=true",), tmp_path, pixels=True)
    (env,) = environments(args, 4)
    assert str(env) == "mine:tdm/Pixels-v0 env=dots/Dot-v0 every=4 beside=True"


def test_a_disk_without_room_for_the_pictures_is_told_before_they_fill_it(tmp_path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**20))
    with pytest.raises(
        ValueError, match=r"may grow by 0.\d GiB, and .* has 0.0 GiB left: lower --buffer-size"
    ):
        online(tmp_path / "out", "dots:dots/Dot-v0", steps=100_000, action_repeat=1)


def test_the_room_is_looked_for_again_where_a_run_is_made_longer(tmp_path, monkeypatch):
    import shutil

    few = {"seed_decisions": 20, "action_repeat": 1}
    online(tmp_path, "dots:dots/Dot-v0", steps=40, **few)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**20))
    assert online(tmp_path, "dots:dots/Dot-v0", steps=40, **few).counts.env_steps == 40  # all is there
    with pytest.raises(ValueError, match="lower --buffer-size"):
        online(tmp_path, "dots:dots/Dot-v0", steps=100_000, **few)


def test_several_environments_are_told_apart_at_the_end(undisturbed):
    table = online_table(undisturbed[1])
    assert [column.header for column in table.columns] == ["environment", "mean return", "returns"]
    assert list(table.columns[0].cells) == [*TWO]
