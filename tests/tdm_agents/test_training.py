"""Training: schedule, exact resume under SIGKILL, refusals, evaluation, the command."""

from __future__ import annotations

import dataclasses
import io
import json
import multiprocessing
import random
import runpy
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tdm_agents.agent import TDMAgent
from tdm_agents.cli import train as command
from tdm_agents.data.decisions import Decisions
from tdm_agents.data.trajectories import Trajectories, TrajectoryInfo
from tdm_agents.data.windows import WindowSampler
from tdm_agents.environments import EnvRef
from tdm_agents.protocols import ModelSpec, Step
from tdm_agents.storage import CheckpointError, FolderInUseError, locked
from tdm_agents.training import run_state
from tdm_agents.training.prediction import prediction_error
from tdm_agents.training.train_config import TrainConfig, noise_seed
from tdm_agents.training.trainer import TrainingError, train
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.model import TransformerWorldModel

N, M = 3, 2
OBSERVATION = spaces.Box(-np.inf, np.inf, (N,), np.float32)
ACTION = spaces.Box(-1.0, 1.0, (M,), np.float32)
SPEC = ModelSpec(OBSERVATION, ACTION, N, M)
CONFIG = TrainConfig(
    steps=12,
    batch_size=4,
    window_steps=6,
    warmup_steps=3,
    checkpoint_every=5,
    evaluate_every=6,
    evaluate_batches=2,
    log_every=1,
    horizons=(1, 3),
    starts=8,
    context_steps=2,
)


def episodes(count=8, steps=12, seed=0):
    """o' = o + a B; reward = the sum of o'."""
    rng = np.random.default_rng(seed)
    action = rng.uniform(-1, 1, (count, steps, M)).astype(np.float32)
    action[:, -1] = 0
    moves = 0.3 * action @ np.array([[1, 0, 1], [0, 1, -1]], np.float32)
    observation = np.concatenate([np.zeros((count, 1, N)), moves[:, :-1].cumsum(1)], 1).astype(np.float32)
    observation += rng.normal(size=(count, 1, N)).astype(np.float32)
    reward = observation.sum(-1)
    reward[:, 0] = np.nan
    flat = Decisions(
        observation.reshape(-1, N), reward.ravel(), action.reshape(-1, M), np.ones(count * steps, bool)
    )
    info = TrajectoryInfo("", OBSERVATION, ACTION, 1, ("0" * 64,))
    return Trajectories.from_arrays(flat, offsets=np.arange(count + 1) * steps, info=info)


def mlp(seed=0):
    model = MLPWorldModel(SPEC, MLPConfig(hidden=8, layers=1), seed=seed)
    model.fit({"any": episodes()})
    return model


class Disturbed(MLPWorldModel):
    """Noise in the loss, as a transformer's reward dropout, and calamities where asked."""

    nan_loss_at: int | None = None
    nan_gradient_at: int | None = None
    calls = 0

    def forward(self, batch, *, generator=None):
        total, metrics = super().forward(batch)
        if generator is not None:
            total = total * (1 + torch.rand((), generator=generator))
            if self.calls == self.nan_loss_at:
                total = total * float("nan")
            if self.calls == self.nan_gradient_at:
                zero = self.head.weight[0, 0] * 0
                total = total + zero.sqrt()  # value 0, gradient 0 * inf
            self.calls += 1
        return total, metrics


def disturbed():
    model = Disturbed(SPEC, MLPConfig(hidden=8, layers=1), seed=0)
    model.fit({"any": episodes()})
    return model


def sampler(config=CONFIG):
    return WindowSampler(episodes(), steps=config.window_steps, batch_size=config.batch_size, seed=0)


def quiet():
    return Console(file=io.StringIO(), width=200)


def run(folder, model=None, config=CONFIG, *, held_out=None, console=None, **options):
    model = model if model is not None else disturbed()
    result = train(model, sampler(config), held_out, config, folder, console=console or quiet(), **options)
    return model, result


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


# -- schedule ------------------------------------------------------------------------------------------------


@given(
    steps=st.integers(1, 500),
    warmup=st.integers(0, 200),
    fraction=st.floats(0, 1),
)
def test_the_learning_rate_rises_to_its_peak_then_falls_to_its_end(steps, warmup, fraction):
    config = TrainConfig(
        steps=steps, warmup_steps=warmup, learning_rate=2.0, final_learning_rate_fraction=fraction
    )
    rates = [config.rate(step) for step in range(steps)]
    assert all(0 <= r <= 2.0 for r in rates)
    rising, falling = rates[:warmup], rates[warmup:]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    if falling:
        assert falling[0] == pytest.approx(2.0)
    if len(falling) > 1:
        assert falling[-1] == pytest.approx(2.0 * fraction, abs=1e-9)


def test_noise_differs_by_step_and_by_seed_and_is_always_the_same():
    seeds = [noise_seed(seed, step) for seed in range(5) for step in range(5)]
    assert len(set(seeds)) == 25
    assert noise_seed(0, 0) == 15793235383387715774


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("steps", 0),
        ("window_steps", 1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("final_learning_rate_fraction", 1.5),
        ("betas", (0.9, 1.0)),
        ("horizons", ()),
        ("threads", 0),
    ],
)
def test_settings_without_meaning_are_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=setting):
        TrainConfig(**{setting: value})


# -- resume --------------------------------------------------------------------------------------------------


def test_training_lowers_the_loss_and_leaves_a_loadable_model(tmp_path):
    config = dataclasses.replace(CONFIG, steps=200, learning_rate=0.03, checkpoint_every=200)
    model, result = run(tmp_path, mlp(), config, held_out=episodes(seed=1))
    before = prediction_error(mlp(), episodes(seed=1), horizons=(1,), starts=8)["rms@1"]
    assert result.metrics["prediction/rms@1"] < 0.3 * before
    assert not result.interrupted
    assert_same_weights(MLPWorldModel.load(tmp_path).state_dict(), model.state_dict())


@pytest.mark.parametrize("stop", [1, 5, 7])
def test_a_run_that_was_cut_in_two_ends_with_the_same_bits(tmp_path, stop):
    whole, _ = run(tmp_path / "whole")
    folder = tmp_path / "cut"
    broken = disturbed()
    broken.nan_loss_at = stop
    with pytest.raises(TrainingError):
        run(folder, broken)
    assert run_state.load(folder).step == stop // 5 * 5
    other_start = disturbed()
    torch.nn.init.zeros_(other_start.head.weight)  # the checkpoint decides, not what the caller brings
    resumed, result = run(folder, other_start)
    assert result.step == CONFIG.steps
    assert_same_weights(resumed.state_dict(), whole.state_dict())


@pytest.mark.parametrize("bf16", [False, True])
def test_a_transformer_that_was_cut_in_two_ends_with_the_same_bits(tmp_path, bf16):
    size = TransformerConfig(layers=1, width=16, heads=2, feedforward=16, context=24)

    def transformer(seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = TransformerWorldModel(SPEC, size)
        model.fit({"any": episodes()})
        return model

    config = dataclasses.replace(CONFIG, bf16=bf16)
    whole, _ = run(tmp_path / "whole", transformer(0), config)
    stopped, inner, calls = transformer(0), TransformerWorldModel.forward, []

    def press_ctrl_c(batch, *, generator=None):
        calls.append(generator)
        if len(calls) == 7:
            signal.raise_signal(signal.SIGINT)
        return inner(stopped, batch, generator=generator)

    stopped.forward = press_ctrl_c
    assert run(tmp_path / "cut", stopped, config)[1].step == 7
    resumed, result = run(tmp_path / "cut", transformer(1), config, held_out=episodes(seed=1))
    assert_same_weights(resumed.state_dict(), whole.state_dict())
    assert np.isfinite(list(result.metrics.values())).all()


def test_how_often_a_run_is_observed_does_not_change_it(tmp_path):
    often = dataclasses.replace(CONFIG, checkpoint_every=1, evaluate_every=1, evaluate_batches=1, starts=2)
    one, _ = run(tmp_path / "one")
    other, _ = run(tmp_path / "other", config=often, held_out=episodes(seed=1))
    assert_same_weights(one.state_dict(), other.state_dict())


IMPORTED_BEFORE = [
    "hypothesis",
    "pytest",
    "tensorboard.backend.event_processing.event_accumulator",
    "tdm_agents.cli.train",
    "torch._dynamo",  # which the first optimizer imports
]
KILLED = dataclasses.replace(CONFIG, steps=60, checkpoint_every=1)


def training_process(context, folder):
    """A process that trains to the end; it runs this file, whose name it could not import."""
    names = {"init_globals": {"folder": folder}, "run_name": "train_to_the_end"}
    return context.Process(target=runpy.run_path, args=(__file__,), kwargs=names)


def progress_of(folder):
    pointer = folder / "checkpoint.json"
    return pointer.stat().st_mtime_ns if pointer.exists() else 0


def test_a_process_killed_at_any_moment_loses_nothing(tmp_path):
    """SIGKILL to a real process that spends most of its time writing checkpoints (one every update)."""
    whole, _ = run(tmp_path / "whole", config=dataclasses.replace(KILLED, checkpoint_every=KILLED.steps))
    folder = tmp_path / "killed"
    processes = multiprocessing.get_context("forkserver")  # a fresh process each, with torch imported before
    processes.set_forkserver_preload(IMPORTED_BEFORE)
    rng = random.Random(0)
    kills = 0
    while True:
        before = progress_of(folder)
        process = training_process(processes, folder)
        process.start()
        if kills < 5:
            while process.is_alive() and progress_of(folder) == before:
                time.sleep(0.001)  # so that every process gets at least one update further
            time.sleep(rng.uniform(0, 0.1))  # an update and its checkpoint take 10 ms or more
            process.kill()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        run_state.load(folder)  # whole, whatever was being written
        kills += 1
    assert kills >= 2  # a busy machine may be late with the others
    assert_same_weights(MLPWorldModel.load(folder).state_dict(), whole.state_dict())
    files = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert files == ["step-00000060.optimizers.safetensors", "step-00000060.weights.safetensors"]
    assert not list(folder.glob(".*.partial"))


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    whole, _ = run(tmp_path / "whole")
    model, written = disturbed(), io.StringIO()
    inner = model.forward

    def press_ctrl_c(batch, *, generator=None):
        if model.calls == 7:
            signal.raise_signal(signal.SIGINT)
        return inner(batch, generator=generator)

    model.forward = press_ctrl_c
    folder = tmp_path / "stopped"
    before = signal.getsignal(signal.SIGINT)
    _, result = run(folder, model, console=Console(file=written, width=500))
    assert signal.getsignal(signal.SIGINT) is before
    assert (result.step, result.interrupted) == (8, True)
    assert "run the same command to go on" in written.getvalue()
    assert_same_weights(MLPWorldModel.load(folder).state_dict(), model.state_dict())
    resumed, _ = run(folder)
    assert_same_weights(resumed.state_dict(), whole.state_dict())


def test_a_finished_run_is_not_trained_again(tmp_path):
    model, _ = run(tmp_path)
    again, result = run(tmp_path, held_out=episodes(seed=1))
    assert again.calls == 0
    assert "held_out/loss" in result.metrics
    assert_same_weights(again.state_dict(), model.state_dict())


@pytest.mark.parametrize(
    "name",
    ["model.json", "weights.safetensors", "checkpoint.json", "run.json", "agent.json"],
)
def test_what_a_killed_process_left_half_written_is_swept_by_the_next(tmp_path, name):
    left = tmp_path / f".{name}.4242.partial"
    left.write_bytes(b"half")
    run(tmp_path)
    assert not left.exists()


def test_a_save_removes_nothing_but_its_own_files(tmp_path):
    files = tmp_path / "checkpoints"
    files.mkdir()
    kept = ["notes.txt", ".notes.txt.12.partial", "step-5.txt", "my-step-00000001.weights.safetensors"]
    swept = ["step-00000001.weights.safetensors", ".step-00000001.optimizers.safetensors.12.partial"]
    for name in (*kept, *swept):
        (files / name).write_text("there before")
    (files / "best").mkdir()
    run(tmp_path)
    ours = [f"step-00000012.{kind}.safetensors" for kind in ("weights", "optimizers")]
    assert {path.name for path in files.iterdir()} == {*kept, "best", *ours}


@pytest.mark.parametrize(
    ("name", "value"),
    [("step", 6), ("optimizer_numbers", {"adamw/step/head.weight": 1.0}), ("settings", {}), ("extra", 1)],
)
def test_a_checkpoint_that_was_edited_by_hand_is_refused(tmp_path, name, value):
    run(tmp_path)
    pointer = tmp_path / "checkpoint.json"
    altered = json.loads(pointer.read_text()) | {name: value}
    pointer.write_text(json.dumps(altered))
    with pytest.raises(CheckpointError, match=r"checkpoint\.json does not agree .* it was altered: restore"):
        run_state.load(tmp_path)
    with pytest.raises(CheckpointError, match="it was altered"):
        run(tmp_path)


def test_a_checkpoint_laid_out_anew_is_the_same(tmp_path):
    run(tmp_path)
    pointer = tmp_path / "checkpoint.json"
    value = json.loads(pointer.read_text())
    pointer.write_text(json.dumps(value, indent=None, sort_keys=True))
    assert run_state.load(tmp_path).step == 12


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_finite_stops_training_before_the_update(tmp_path, what):
    model = disturbed()
    setattr(model, f"nan_{what}_at", 7)
    with pytest.raises(TrainingError, match=rf"{what}.* is nan at step 7.*step 5 in "):
        run(tmp_path, model)
    assert run_state.load(tmp_path).step == 5
    assert all(p.isfinite().all() for p in model.parameters())
    assert not (tmp_path / "model.json").exists()


def test_a_run_with_other_settings_is_refused_by_name(tmp_path):
    run(tmp_path)
    with pytest.raises(ValueError, match=r"learning_rate=0\.003, now it is 0\.1"):
        run(tmp_path, config=dataclasses.replace(CONFIG, learning_rate=0.1))


def test_a_folder_with_a_run_is_refused_where_none_should_be_resumed(tmp_path):
    run(tmp_path)
    with pytest.raises(ValueError, match="holds a run already"):
        run(tmp_path, resume=False)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(CheckpointError, match="another model"):
        run(tmp_path, MLPWorldModel(SPEC, MLPConfig(hidden=9, layers=1)))


def test_a_truncated_checkpoint_is_refused(tmp_path):
    run(tmp_path)
    moments = tmp_path / "checkpoints" / "step-00000012.optimizers.safetensors"
    moments.write_bytes(moments.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="truncated or was altered"):
        run(tmp_path)


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    with (
        locked(tmp_path),
        pytest.raises(FolderInUseError, match="another process writes"),
    ):
        run(tmp_path)
    run(tmp_path)  # and the lock is gone


# -- what is reported ----------------------------------------------------------------------------------------


def test_curves_hold_every_part_of_the_loss_and_the_evaluation(tmp_path):
    run(tmp_path, held_out=episodes(seed=1))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == {
        *(f"train/{name}" for name in ("loss", "observation", "reward", "gradient_norm", "learning_rate")),
        *(f"held_out/{name}" for name in ("loss", "observation", "reward")),
        *(f"prediction/{name}@{h}" for name in ("rms", "median", "reward_rms") for h in (1, 3)),
    }
    assert [e.step for e in events.Scalars("train/loss")] == list(range(1, 13))
    assert [e.step for e in events.Scalars("held_out/loss")] == [6, 12]


def test_decay_is_for_matrices_only(tmp_path):
    config = dataclasses.replace(CONFIG, steps=1, warmup_steps=0, weight_decay=0.5)
    plain, _ = run(tmp_path / "plain", config=dataclasses.replace(config, weight_decay=0.0))
    decayed, _ = run(tmp_path / "decayed", config=config)
    assert torch.equal(plain.head.bias, decayed.head.bias)
    expected = disturbed().head.weight * config.learning_rate * 0.5
    torch.testing.assert_close(plain.head.weight - decayed.head.weight, expected, rtol=1e-3, atol=1e-6)


class Exact:
    """A world model of :func:`episodes` that is off by ``error`` times the step number."""

    def __init__(self, error=0.0, history_steps=1):
        self.spec = dataclasses.replace(SPEC, history_steps=history_steps)
        self.error = torch.as_tensor(error)
        self.histories = []

    def start(self, history, *, horizon):
        self.histories.append(history)
        return history.observation[:, -1]

    def step(self, state, action, *, generator=None):
        after = state + 0.3 * action @ torch.tensor([[1.0, 0, 1], [0, 1, -1]]) + self.error
        return after, Step(after, after.sum(-1), torch.ones(len(after), dtype=torch.bool))

    def take(self, state, rows):
        return state[rows]


def test_a_perfect_model_has_no_prediction_error():
    error = prediction_error(Exact(), episodes(), horizons=(1, 5), starts=16, context_steps=3)
    assert set(error) == {f"{name}@{h}" for name in ("rms", "median", "reward_rms") for h in (1, 5)}
    assert max(error.values()) < 1e-5


def test_the_prediction_error_is_in_standard_deviations_of_the_data():
    data = episodes()
    spread = np.concatenate([data.episode(e).observation for e in range(data.num_episodes)]).std(0)
    error = prediction_error(Exact(0.5 * spread), data, horizons=(1, 4), starts=16, context_steps=3)
    assert error["rms@1"] == pytest.approx(0.5, rel=1e-4)
    assert error["median@4"] == pytest.approx(2.0, rel=1e-4)


def test_models_are_compared_from_the_same_starts_whatever_history_they_read():
    short, long = Exact(history_steps=1), Exact(history_steps=3)
    for model in (short, long):
        prediction_error(model, episodes(), horizons=(2,), starts=8, context_steps=5)
    assert long.histories[0].observation.shape == (8, 3, N)
    assert long.histories[0].action.shape == (8, 2, M)
    assert torch.equal(short.histories[0].observation[:, -1], long.histories[0].observation[:, -1])


def test_held_out_episodes_that_are_too_short_are_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match="no episode has 52 steps"):
        run(tmp_path, config=dataclasses.replace(CONFIG, horizons=(50,)), held_out=episodes())
    assert not run_state.exists(tmp_path)


def test_episodes_that_are_too_short_are_named():
    with pytest.raises(ValueError, match="12"):
        prediction_error(Exact(), episodes(), horizons=(50,))


# -- the command ---------------------------------------------------------------------------------------------


PRESET = MLPWorldModel.presets()["default"]


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    # Minari files are the data tests' business; here the command gets its episodes from memory
    monkeypatch.setattr(command.Trajectories, "each_from_minari", lambda source, **_: [episodes(count=20)])
    return command.Train(
        data=(Path("any"),),
        out=tmp_path / "run",
        model="mlp",
        model_settings={"hidden": "8", "layers": "1"},
        training=CONFIG,
    )


def test_the_command_trains_and_resumes_and_refuses_another_run(arguments):
    result = command.run(arguments, console=quiet())
    assert result.step == CONFIG.steps
    assert MLPWorldModel.load(arguments.out).spec.observation_dim == N
    command.run(arguments, console=quiet())
    with pytest.raises(ValueError, match=r"another run: config\.hidden is 8 there and 9 here"):
        command.run(
            dataclasses.replace(arguments, model_settings={"hidden": "9", "layers": "1"}), console=quiet()
        )


def test_a_terminal_reward_is_learned_from_and_part_of_the_run(arguments, monkeypatch):
    with pytest.raises(ValueError, match=r"terminal_reward is -9\.0, but no episode of .* was terminated"):
        command.run(dataclasses.replace(arguments, terminal_reward=-9.0), console=quiet())
    data = episodes(count=20)
    alive = [np.array(part.alive) for part in data.parts]
    alive[0][data.episodes[:, 1] + data.episodes[:, 2] - 1] = False
    ended = dataclasses.replace(data, parts=(dataclasses.replace(data.parts[0], alive=alive[0]),))
    monkeypatch.setattr(command.Trajectories, "each_from_minari", lambda source, **_: [ended])
    read = []
    monkeypatch.setattr(
        MLPWorldModel, "fit", lambda self, data, fit=MLPWorldModel.fit: read.append(data) or fit(self, data)
    )
    costly = dataclasses.replace(arguments, terminal_reward=-9.0)
    command.run(costly, console=quiet())
    ((kept,),) = (seen.values() for seen in read)
    lasts = [episode.reward[-1] for episode in kept.iterate()]
    plain = [episode.reward[-1] for episode in ended.split(0.05, 0)[0].iterate()]
    np.testing.assert_allclose(lasts, np.array(plain) - 9.0)
    command.run(costly, console=quiet())
    with pytest.raises(ValueError, match="another run: terminal_reward"):
        command.run(arguments, console=quiet())


def test_a_run_of_the_first_release_goes_on(arguments):
    """Its run.json and checkpoint.json are of schema 1; it was interrupted after 6 of 12 updates."""
    old = Path(__file__).parents[1] / "support" / "old_runs" / "mlp"
    shutil.copytree(old, arguments.out)
    with pytest.raises(ValueError, match=r"another run: config\.hidden is 8 there and 9 here"):
        command.run(dataclasses.replace(arguments, model_settings={"hidden": "9"}), console=quiet())
    assert command.run(arguments, console=quiet()).step == CONFIG.steps
    ended = safetensors.torch.load_file(old / "ended.safetensors")
    torch.testing.assert_close(MLPWorldModel.load(arguments.out).state_dict(), ended)


def test_what_was_trained_is_an_agent(arguments):
    command.run(arguments, console=quiet())
    agent = TDMAgent.load(arguments.out, horizon=2, num_samples=4)
    agent.reset()
    assert SPEC.action_space.contains(agent.act(np.zeros(N, np.float32)))
    assert agent.reward_function is None  # nobody knows this environment's


def test_an_unknown_planner_fails_before_the_training(arguments):
    with pytest.raises(LookupError, match="did you mean 'mppi'"):
        command.run(dataclasses.replace(arguments, planner="mpi"), console=quiet())
    assert not arguments.out.exists()


def test_the_reward_function_of_a_known_environment_is_written_down(arguments):
    settings = command.agent_settings(
        arguments, command.planner_of(arguments, PRESET), EnvRef("dm_control/cartpole-swingup-v0")
    )
    assert settings.reward_function == settings.env_id == "dm_control/cartpole-swingup-v0"
    plain = dataclasses.replace(arguments, known_reward=False)
    assert (
        command.agent_settings(
            plain, command.planner_of(plain, PRESET), EnvRef(settings.env_id)
        ).reward_function
        is None
    )


def test_fine_tuning_starts_from_the_weights_and_the_normaliser(arguments, tmp_path):
    command.run(arguments, console=quiet())
    first = MLPWorldModel.load(arguments.out)
    one_step = dataclasses.replace(CONFIG, steps=1, learning_rate=1e-9)
    tuned = dataclasses.replace(arguments, out=tmp_path / "tuned", init_from=arguments.out, training=one_step)
    command.run(tuned, console=quiet())
    for (name, mine), theirs in zip(
        MLPWorldModel.load(tuned.out).state_dict().items(), first.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(mine, theirs, msg=name)


def test_fine_tuning_from_what_does_not_fit_is_refused(arguments, tmp_path):
    MLPWorldModel(SPEC, MLPConfig(9, 1)).save(tmp_path / "wide")
    with pytest.raises(CheckpointError, match=r"config\.hidden is 9 there and 8 here"):
        command.run(dataclasses.replace(arguments, init_from=tmp_path / "wide"), console=quiet())
    other = dataclasses.replace(SPEC, observation_space=spaces.Box(-1, 1, (N,)))
    MLPWorldModel(other, MLPConfig(8, 1)).save(tmp_path / "foreign")
    with pytest.raises(CheckpointError, match=r"spec\.observation_space"):
        command.run(dataclasses.replace(arguments, init_from=tmp_path / "foreign"), console=quiet())


if __name__ == "train_to_the_end":
    run(globals()["folder"], config=KILLED)
