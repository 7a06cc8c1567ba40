"""Online training: what is learned, kept, and gone on with."""

import json
import os
import shutil
import signal
import threading
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from rich.console import Console
from small_online import CONFIG, FEW, online, result, rows
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tdm_agents import TDMAgent
from tdm_agents.cli.main import main
from tdm_agents.online import acting
from tdm_agents.online.online_config import OnlineConfig
from tdm_agents.storage import CheckpointError, FolderInUseError, locked
from tdm_agents.training import run_state
from tdm_agents.world_models.tdmpc2 import updating
from tdm_agents.world_models.tdmpc2.tdmpc2_model import TDMPC2


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("online") / "run"
    return out, online(out)


def test_a_run_has_its_curve_and_its_agent(undisturbed):
    out, done = undisturbed
    assert done.counts.env_steps == 240 and done.counts.decisions == 120 and done.counts.episodes == 6
    assert done.counts.updates == 120  # one per decision, of the random ones too
    episodes, evaluations = rows(out).values()
    assert [e["env_steps"] for e in episodes] == [40, 80, 120, 160, 200, 240]
    assert [e["random"] for e in episodes] == [True, True, False, False, False, False]
    assert all(e["end"] == "cut" and e["length"] == 40 for e in episodes)
    assert [e["env_steps"] for e in evaluations] == [120, 200, 240]
    assert list(done.scores) == evaluations[-1]["returns"] and len(done.scores) == 2
    assert [p for p in out.iterdir() if p.name.startswith("events.out.tfevents")]
    agent = TDMAgent.load(out)
    assert agent.env_id == "Pendulum-v1" and not agent.planner.explore
    env = gym.make("Pendulum-v1")
    agent.reset()
    assert env.action_space.contains(agent.act(env.reset(seed=0)[0]))


def test_a_run_is_a_function_of_its_seed(undisturbed, tmp_path):
    online(tmp_path / "same")
    assert result(tmp_path / "same") == result(undisturbed[0])
    online(tmp_path / "other", seed=1)
    assert rows(tmp_path / "other")["episodes"] != rows(undisturbed[0])["episodes"]


def test_neither_evaluations_nor_checkpoints_change_what_is_learned(undisturbed, tmp_path):
    online(tmp_path, evaluate_every=40, evaluate_episodes=1, checkpoint_every=1, log_every=1)
    assert rows(tmp_path)["episodes"] == rows(undisturbed[0])["episodes"]
    weights = "weights.safetensors"
    assert (tmp_path / weights).read_bytes() == (undisturbed[0] / weights).read_bytes()


@pytest.mark.parametrize("when", [60, 130, 185])
def test_an_interrupted_run_goes_on_to_the_same_bits(undisturbed, tmp_path, when, monkeypatch):
    step = gym.make("Pendulum-v1").unwrapped.__class__.step
    count = iter(range(10**6))

    def watched(self, action):
        if next(count) == when:
            signal.raise_signal(signal.SIGINT)
        return step(self, action)

    monkeypatch.setattr(gym.make("Pendulum-v1").unwrapped.__class__, "step", watched)
    console = Console(record=True, quiet=False, file=open(os.devnull, "w"), width=200)  # noqa: SIM115
    with pytest.raises(SystemExit) as stopped:
        online(tmp_path, console=console, terminates=False)
    assert stopped.value.code == 130 and "run the same command to go on" in console.export_text()
    monkeypatch.undo()
    online(tmp_path, terminates=False)
    assert result(tmp_path) == result(undisturbed[0])


def test_a_run_interrupted_amid_the_first_updates_is_not_evaluated_there(tmp_path, monkeypatch):
    # 120 environment steps without an update are more than evaluate_every; then 60 updates are due at once
    online(tmp_path / "undisturbed", seed_decisions=60)
    update = TDMPC2.update

    def watched(self, *arguments, step, **settings):
        if step == 30:
            signal.raise_signal(signal.SIGINT)
        return update(self, *arguments, step=step, **settings)

    monkeypatch.setattr(TDMPC2, "update", watched)
    with pytest.raises(SystemExit):
        online(tmp_path / "interrupted", seed_decisions=60)
    monkeypatch.undo()
    online(tmp_path / "interrupted", seed_decisions=60)
    assert result(tmp_path / "interrupted") == result(tmp_path / "undisturbed")


def test_a_finished_run_goes_on_where_more_steps_are_asked_for(tmp_path, undisturbed):
    online(tmp_path, steps=160)
    online(tmp_path)
    assert rows(tmp_path)["episodes"] == rows(undisturbed[0])["episodes"]
    online(tmp_path)  # nothing is left to do
    assert rows(tmp_path)["episodes"] == rows(undisturbed[0])["episodes"]


def test_other_settings_are_another_run(undisturbed):
    out, _ = undisturbed
    with pytest.raises(ValueError, match=r"the run in .* has batch_size=16, now it is 8: go on with its own"):
        online(out, batch_size=8)
    for name, value in (("envs", 3), ("max_steps", 20), ("buffer_size", 5000)):  # of which sizes follow
        with pytest.raises(ValueError, match=f"the run in .* has {name}=.*, now it is {value}: go on"):
            online(out, **{name: value})
    with pytest.raises(ValueError, match=r"holds another run: .*config.width is 16 there and 32 here"):
        online(out, model_settings={"width": "32", "latent": "16", "encoder-width": "16"})
    with pytest.raises(ValueError, match=r"holds another run: .*num_elites is 8 there and 4 here"):
        online(out, planner_settings=FEW | {"num-elites": "4"})
    with pytest.raises(ValueError, match="holds another run"):
        online(out, "MountainCarContinuous-v0")
    with locked(out), pytest.raises(FolderInUseError, match="another process writes to"):
        online(out)


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("42")
    with pytest.raises(ValueError, match=r"holds 'thesis.tex' and no run of tdm online"):
        online(tmp_path)


def test_what_was_altered_is_refused(tmp_path, undisturbed):
    online(tmp_path, steps=120)
    curve = json.loads((tmp_path / "curve.json").read_text())
    (tmp_path / "curve.json").write_text(json.dumps(curve | {"episodes": curve["episodes"][:1]}))
    with pytest.raises(CheckpointError, match="has 1 episodes, the checkpoint 3"):
        online(tmp_path)


def test_a_run_without_its_checkpoint_is_not_begun_anew(tmp_path):
    online(tmp_path, steps=120)
    (tmp_path / "checkpoint.json").unlink()
    with pytest.raises(CheckpointError, match=r"curve.json is of a run whose checkpoint is missing"):
        online(tmp_path)
    assert len(rows(tmp_path)["episodes"]) == 3


def test_ends_that_the_environment_makes_are_learned(tmp_path):
    done = online(tmp_path, "InvertedPendulum-v5", envs=3, steps=300, max_steps=None, seed_decisions=60)
    episodes = rows(tmp_path)["episodes"]
    assert {e["end"] for e in episodes} == {"terminated"} and len(episodes) % 3 == 0
    assert done.counts.updates == done.counts.decisions
    model = TDMAgent.load(tmp_path).model
    assert model.spec.terminates
    # the discount is that of the longest episode there may be: 1,000 steps, 2 per decision
    assert model.discount.item() == pytest.approx(0.99)
    assert TDMAgent.load(tmp_path).planner.discount == pytest.approx(0.99)


def test_another_model_with_another_planner_learns_too(tmp_path):
    done = online(
        tmp_path,
        model="mlp",
        model_settings={"hidden": "16"},
        planner="cem",
        planner_settings={"horizon": "3", "num_samples": "8", "iterations": "1"},
        action_repeat=2,
    )
    assert done.counts.updates == 120 and len(done.scores) == 2
    assert type(TDMAgent.load(tmp_path).base_model).__name__ == "MLPWorldModel"


def test_discrete_actions(tmp_path):
    done = online(tmp_path, "CartPole-v1", steps=160, seed_decisions=40, action_repeat=1)
    assert done.counts.env_steps >= 160
    agent = TDMAgent.load(tmp_path)
    agent.reset()
    assert agent.act(np.zeros(4, np.float32)) in (0, 1)


def test_several_choices(tmp_path):
    online(tmp_path, "Acrobot-v1", steps=60, seed_decisions=20, max_steps=20)
    agent = TDMAgent.load(tmp_path)
    agent.reset()
    assert agent.model.spec.action_choices == (3,) and agent.act(np.zeros(6, np.float32)) in (0, 1, 2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_choices_are_learned(tmp_path):
    settings = {"max_steps": 200, "steps": 3000, "seed_decisions": 500, "batch_size": 64, "action_repeat": 1}
    model = {"width": "64", "latent": "64", "encoder-width": "64"}
    few = {"num-samples": "32", "num-policy": "8", "num-elites": "8", "iterations": "2"}
    done = online(
        tmp_path,
        "CartPole-v1",
        model_settings=model,
        planner_settings=few,
        evaluate_every=10_000,
        checkpoint_every=1000,
        **settings,
    )
    untrained = [row["return"] for row in rows(tmp_path)["episodes"] if row["random"]]
    assert np.mean(done.scores) > np.mean(untrained) + 50, (done.scores, untrained)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("data")
    few = ("--random-episodes", "3", "--planner-episodes", "0", "--max-steps", "40", "--action-repeat", "2")
    assert main(["collect", "--env-id", "Pendulum-v1", *few, "--out", str(out)]) == 0
    return out / "data"


def test_data_come_first_and_experience_is_added(data, tmp_path):
    done = online(tmp_path, data=(data,), seed_decisions=None, steps=120)
    assert (done.counts.given, done.counts.decisions, done.counts.updates) == (60, 60, 120)
    assert not any(e["random"] for e in rows(tmp_path)["episodes"])
    assert rows(tmp_path)["episodes"][0]["updates"] == 60 + 20
    online(tmp_path, data=(data,), seed_decisions=None)
    undisturbed = tmp_path / "undisturbed"
    online(undisturbed, data=(data,), seed_decisions=None)
    assert rows(tmp_path)["episodes"] == rows(undisturbed)["episodes"]
    few = online(tmp_path / "few", data=(data,), seed_decisions=None, offline_updates=7, steps=40)
    assert few.counts.updates == 7 + 20
    with pytest.raises(ValueError, match=r"holds another run: .*data"):
        online(tmp_path)


def test_data_of_another_environment_are_refused(data, tmp_path):
    with pytest.raises(ValueError, match=r"observation_space of the environment is .*; pass data of this"):
        online(tmp_path / "out", "MountainCarContinuous-v0", data=(data,))


def test_a_trained_model_acts_at_once_and_learns_on(undisturbed, tmp_path):
    done = online(tmp_path, init_from=undisturbed[0], steps=120, seed=3)
    assert not any(e["random"] for e in rows(tmp_path)["episodes"])
    assert rows(tmp_path)["episodes"][1]["updates"] == 0  # not before 40 decisions
    assert done.counts.updates == 60
    with pytest.raises(CheckpointError, match=r"does not fit: config.encoder_width is 16 there and 256 here"):
        online(tmp_path / "other", init_from=undisturbed[0], model_settings={})


def test_a_model_that_goes_on_ends_episodes_as_it_did(undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(acting, "terminates", lambda *_: True)  # what random episodes would say
    online(tmp_path, init_from=undisturbed[0], steps=120)
    assert not TDMAgent.load(tmp_path).model.spec.terminates


def test_a_discount_that_is_asked_for_is_kept(undisturbed, tmp_path):
    online(tmp_path, planner_settings=FEW | {"discount": "0.5"}, steps=120)
    assert TDMAgent.load(tmp_path).planner.discount == 0.5
    assert TDMAgent.load(undisturbed[0]).planner.discount == pytest.approx(
        0.95
    )  # of episodes of 20 decisions


def test_losses_are_drawn_over_updates_and_only_those_of_a_resumed_run_again(undisturbed, tmp_path):
    online(tmp_path, steps=160)
    online(tmp_path)
    steps = {}
    for folder in (undisturbed[0], tmp_path):
        events = EventAccumulator(str(folder / "updates")).Reload()
        steps[folder] = [event.step for event in events.Scalars("train/loss")]
    assert steps[tmp_path] == steps[undisturbed[0]] == list(range(10, 121, 10))


def test_updates_per_decision(tmp_path):
    assert online(tmp_path, updates_per_decision=0.25).counts.updates == 30


def test_a_loss_that_is_not_finite_ends_the_run_before_the_weights_change(tmp_path, monkeypatch):
    forward = updating.model_loss

    def broken(*args, **kwargs):
        loss = forward(*args, **kwargs)
        return replace(loss, total=loss.total * torch.inf)

    monkeypatch.setattr(updating, "model_loss", broken)
    with pytest.raises(RuntimeError, match="loss is inf at update 0; the last checkpoint"):
        online(tmp_path)
    assert run_state.load(tmp_path).step == 0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"steps": 0}, "steps is 0; expected at least 1"),
        ({"window_steps": 1}, "window_steps is 1; a transition needs at least 2"),
        ({"updates_per_decision": 0.0}, "updates_per_decision is 0.0; expected more than 0"),
        ({"updates_per_decision": float("inf")}, "updates_per_decision is inf"),
        ({"seed": -1}, "seed is -1; expected at least 0"),
        ({"buffer_size": 20}, r"buffer_size is 20, and 1 episodes of at most 20 decisions need 21: raise it"),
        ({"learning_rate": 1e-3}, "learning_rate is 0.001, which TD-MPC2 does not read"),
        ({"action_repeat": 0}, "--action-repeat is 0; expected at least 1"),
        ({"steps": 80}, r"steps is 80 environment steps, and the first 40 decisions of 2 each come before"),
        ({"offline_updates": 5}, "--offline-updates is 5, and there is no --data"),
        ({"offline_updates": -1}, "offline_updates is -1; expected at least 0"),
        ({"window_steps": 3}, r"--window-steps is 3, and the model learns from 3 .*: pass --window-steps 4"),
        (
            {"model": "trajectory_transformer"},
            "learns from the returns of recorded episodes; use `tdm train`",
        ),
        ({"preset": "2m"}, "has no preset '2m'"),
        ({"model_settings": {"depth": "3"}}, "has no setting 'depth'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, sentence, tmp_path):
    with pytest.raises((ValueError, LookupError, TypeError), match=sentence):
        online(tmp_path / "out", **settings)


def test_who_would_learn_nothing_can_do_as_told_in_the_same_folder(tmp_path):
    with pytest.raises(ValueError, match="nothing would be learned"):
        online(tmp_path, steps=80)
    assert online(tmp_path, steps=80, seed_decisions=20).counts.updates > 0


def test_a_start_that_was_refused_leaves_the_folder_to_another(tmp_path):
    with pytest.raises(ValueError, match="nothing would be learned"):
        online(tmp_path, steps=80)
    assert online(tmp_path, "MountainCarContinuous-v0").counts.updates > 0


def test_what_a_refused_start_found_out_is_forgotten_with_it(tmp_path):
    with pytest.raises(ValueError, match="nothing would be learned"):
        online(tmp_path, steps=80, terminates=True)
    online(tmp_path)
    assert not TDMAgent.load(tmp_path).model.spec.terminates


def test_a_model_of_another_command_is_not_taken_for_a_refused_start(tmp_path, undisturbed):
    shutil.copy(undisturbed[0] / "model.json", tmp_path / "model.json")
    run = json.loads((undisturbed[0] / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(run | {"config": run["config"] | {"width": 5}}))
    with pytest.raises(ValueError, match="holds another run"):
        online(tmp_path)


def test_a_trained_model_that_would_learn_nothing_is_told(undisturbed, tmp_path):
    with pytest.raises(ValueError, match=r"first 40 decisions of 2 each come before the first update"):
        online(tmp_path, init_from=undisturbed[0], steps=80)


def test_a_planner_that_the_model_cannot_serve_is_refused_before_anything_is_played(tmp_path):
    with pytest.raises(TypeError, match=r"follows a proposal.*has no propose"):
        online(
            tmp_path,
            model="mlp",
            preset=None,
            model_settings={},
            planner="mppi",
            planner_settings={"num-policy": "4"},
        )
    assert not (tmp_path / "curve.json").exists() and not (tmp_path / "run.json").exists()


def test_images_are_refused_before_anything_is_made_by_models_that_cannot_read_them(tmp_path):
    gym.register("Images-v0", entry_point=lambda: gym.wrappers.AddRenderObservation(_Seen()))
    with pytest.raises(ValueError, match="looks like images"):
        online(tmp_path / "out", "Images-v0", model="mlp")
    assert not (tmp_path / "out").exists()


class _Seen(gym.Env):
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = gym.spaces.Box(0, 1, (1,))
    action_space = gym.spaces.Box(-1, 1, (1,))
    render_mode = "rgb_array"

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def render(self):
        return np.zeros((64, 64, 3), np.uint8)


def test_seeds_of_training_and_evaluation_are_apart():
    config = OnlineConfig(**CONFIG)
    assert not {acting.reset_seed(config, e) for e in range(200)} & set(acting.evaluation_seeds(config))
    assert len({acting.reset_seed(config, e) for e in range(200)}) == 200
    assert acting.reset_seed(config, 3) == acting.reset_seed(config, 3)


def test_a_run_in_a_thread_is_not_interrupted(tmp_path):
    done = []
    thread = threading.Thread(target=lambda: done.append(online(tmp_path, steps=120)))
    thread.start()
    thread.join()
    assert done[0].counts.env_steps == 120
