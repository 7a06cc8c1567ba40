"""One transformer for environments of different sizes: loss, training, resuming, files, zero-shot."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from gymnasium import spaces
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tdm_agents.agent import TDMAgent
from tdm_agents.cli import train as command
from tdm_agents.data.decisions import Decisions
from tdm_agents.data.mixture import MixtureSampler
from tdm_agents.data.trajectories import Trajectories, TrajectoryInfo
from tdm_agents.protocols import History, MixedBatch
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.storage import CheckpointError
from tdm_agents.testing import check_world_model
from tdm_agents.training.team import LostProcessError
from tdm_agents.training.train_config import TrainConfig
from tdm_agents.training.trainer import train
from tdm_agents.world_models.transformer.beginning import with_room
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.decoding.options import DecodingOptions
from tdm_agents.world_models.transformer.generalist import Generalist
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.step_generalist import StepGeneralist
from tdm_agents.world_models.transformer.step_model import StepTransformer
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

ACTIONS = {
    "Slide-v0": spaces.Box(-1.0, 1.0, (1,)),
    "Turn-v0": spaces.Discrete(3),
    "Push-v0": spaces.Box(-1.0, 1.0, (2,)),
}
SIZES = {"Slide-v0": 2, "Turn-v0": 3, "Push-v0": 5}
PAPER = TokenizerConfig(observation="mu_law", target="absolute", bins=64)
FITTED = TokenizerConfig(bins=64)
SMALL = TransformerConfig(
    layers=1,
    width=32,
    heads=2,
    feedforward=32,
    context=30,
    tokenizer=PAPER,
    decoding=DecodingOptions(read="mode"),
)
CONFIG = TrainConfig(
    steps=10,
    batch_size=6,
    window_steps=4,
    warmup_steps=2,
    log_every=1,
    checkpoint_every=4,
    evaluate_every=5,
    evaluate_batches=2,
    horizons=(1, 2),
    starts=4,
    context_steps=2,
)


def episodes(name, count=12, steps=10, seed=0):
    """Every scalar moves by a tenth of the (first) action; ``Turn-v0`` ends where it says 'alive' no more."""
    rng = np.random.default_rng(seed)
    n, space = SIZES[name], ACTIONS[name]
    discrete = isinstance(space, spaces.Discrete)
    m = 1 if discrete else space.shape[0]
    action = rng.integers(3, size=(count, steps, m)) if discrete else rng.uniform(-1, 1, (count, steps, m))
    action[:, -1] = 0
    moves = 0.3 * (action[:, :-1, :1] - (1 if discrete else 0))
    observation = np.concatenate([np.zeros((count, 1, n)), np.repeat(moves, n, axis=2)], axis=1).cumsum(
        axis=1
    )
    observation += rng.normal(size=(count, 1, n))
    reward = observation[..., 0].copy()
    reward[:, 0] = np.nan
    alive = np.ones((count, steps), bool)
    alive[:, -1] = name != "Turn-v0"
    flat = Decisions(
        observation.reshape(-1, n).astype(np.float32),
        reward.ravel().astype(np.float32),
        action.reshape(-1, m).astype(np.int64 if discrete else np.float32),
        alive.ravel(),
    )
    info = TrajectoryInfo(name, spaces.Box(-np.inf, np.inf, (n,)), space, 1, (name,))
    return Trajectories.from_arrays(flat, offsets=np.arange(count + 1) * steps, info=info)


def all_episodes(seed=0, **options):
    return {name: episodes(name, seed=seed, **options) for name in SIZES}


def generalist(tokenizer=PAPER, seed=0, **changes):
    config = dataclasses.replace(SMALL, tokenizer=tokenizer, **changes)
    data = all_episodes()
    model = Generalist.build({name: t.spec for name, t in data.items()}, config, seed=seed)
    model.fit(data)
    return model


def mixture(config=CONFIG):
    return MixtureSampler(
        all_episodes(), steps=config.window_steps, batch_size=config.batch_size, seed=config.seed
    )


QUICK = dataclasses.replace(CONFIG, steps=2, evaluate_batches=1, horizons=(1,), starts=1, context_steps=1)


def quiet():
    return Console(file=io.StringIO(), width=200)


def history_of(model, rows=2, steps=3):
    n, m = model.spec.observation_dim, model.spec.action_dim
    generator = torch.Generator().manual_seed(0)
    action = torch.rand((rows, steps - 1, m), generator=generator) * 2 - 1
    if model.spec.action_kind == "discrete":
        action = torch.randint(min(model.spec.action_choices), (rows, steps - 1, m), generator=generator)
    return History(
        observation=torch.randn((rows, steps, n), generator=generator),
        reward=torch.randn((rows, steps), generator=generator),
        action=action,
        length=torch.full((rows,), steps),
    )


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


# -- the loss ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", [PAPER, FITTED], ids=["paper", "fitted"])
def test_the_gradient_is_the_weighted_sum_of_the_environments(tokenizer):
    model = generalist(tokenizer)
    batch = mixture().batch(0)
    assert len(batch.parts) == 3
    loss, metrics = model(batch)
    loss.backward()
    mixed = {name: p.grad.clone() for name, p in model.named_parameters()}
    expected = {name: torch.zeros_like(grad) for name, grad in mixed.items()}
    total = 0.0
    for name, part in batch.parts.items():
        model.zero_grad()
        share = len(part.reward) / CONFIG.batch_size
        alone, _ = model.environment(name)(part)
        alone.backward()
        total += share * alone.item()
        for key, p in model.named_parameters():
            if p.grad is not None:
                expected[key] += share * p.grad
    assert loss.item() == pytest.approx(total, rel=1e-6)
    for key, grad in mixed.items():
        torch.testing.assert_close(grad, expected[key], rtol=1e-4, atol=1e-7, msg=key)
    # only one of them ends, so its share does not dilute what is said of it
    part = batch.parts["Turn-v0"]
    assert float(metrics["nll_alive"]) == pytest.approx(
        float(model.environment("Turn-v0")(part)[1]["nll_alive"]), rel=1e-5
    )


def test_a_batch_of_one_environment_is_that_environments_loss():
    model = generalist()
    part = mixture().batch(0).parts["Push-v0"]
    loss, metrics = model(MixedBatch({"Push-v0": part}))
    alone, alone_metrics = model.environment("Push-v0")(part)
    assert torch.equal(loss, alone)
    assert metrics.keys() == alone_metrics.keys()


# -- training ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", [PAPER, FITTED], ids=["paper", "fitted"])
def test_the_held_out_loss_of_each_of_three_environments_goes_down(tmp_path, tokenizer):
    config = dataclasses.replace(
        CONFIG, steps=40, batch_size=12, learning_rate=0.01, checkpoint_every=60, evaluate_every=1000
    )
    held_out = all_episodes(seed=1)
    model = generalist(tokenizer)
    before = train(model, mixture(config), held_out, dataclasses.replace(config, steps=1), tmp_path / "a")
    after = train(generalist(tokenizer), mixture(config), held_out, config, tmp_path / "b", console=quiet())
    for name in SIZES:
        key = f"held_out/loss/{name}"
        assert after.metrics[key] < before.metrics[key] - 0.3, key
    losses = [after.metrics[f"held_out/loss/{name}"] for name in SIZES]
    assert after.metrics["held_out/loss"] == pytest.approx(np.mean(losses))
    assert after.metrics["held_out/nll_alive"] == after.metrics["held_out/nll_alive/Turn-v0"]
    tags = EventAccumulator(str(tmp_path / "b")).Reload().Tags()["scalars"]
    assert {f"prediction/rms@2/{name}" for name in SIZES} <= set(tags)


def test_a_generalist_that_was_cut_in_two_ends_with_the_same_bits(tmp_path):
    whole = generalist()
    train(whole, mixture(), None, CONFIG, tmp_path / "whole", console=quiet())
    stopped, inner, calls = generalist(), Generalist.forward, []

    def press_ctrl_c(batch, *, generator=None):
        calls.append(batch)
        if len(calls) == 6:
            signal.raise_signal(signal.SIGINT)
        return inner(stopped, batch, generator=generator)

    stopped.forward = press_ctrl_c
    folder = tmp_path / "cut"
    assert train(stopped, mixture(), None, CONFIG, folder, console=quiet()).step == 6
    resumed = generalist(seed=1)
    result = train(resumed, mixture(), all_episodes(seed=1), CONFIG, folder, console=quiet())
    assert_same_weights(resumed.state_dict(), whole.state_dict())
    assert np.isfinite(list(result.metrics.values())).all()


def test_batches_that_other_processes_read_and_prepare_give_the_same_bits(tmp_path):
    weights = []
    for readers in (0, 2):
        model = generalist()
        config = dataclasses.replace(QUICK, steps=4, readers=readers)
        train(model, mixture(config), all_episodes(seed=1), config, tmp_path / str(readers), console=quiet())
        weights.append(model.state_dict())
    assert_same_weights(*weights)


class Deadly:
    """A sampler that ends the process that reads."""

    def batch(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_reader_that_was_killed_is_told_with_a_remedy(tmp_path):
    config = dataclasses.replace(QUICK, readers=1)
    with pytest.raises(LostProcessError, match="fewer --readers"):
        train(generalist(), Deadly(), None, config, tmp_path, console=quiet())


def test_divided_batches_are_not_read_ahead(tmp_path):
    config = dataclasses.replace(QUICK, readers=2, accumulate=2)
    with pytest.raises(ValueError, match="--readers is 2, and batches are divided"):
        train(generalist(), mixture(config), None, config, tmp_path, console=quiet())


def test_environments_with_the_same_tokens_are_read_together():
    data = {name: episodes("Slide-v0", seed=seed) for seed, name in enumerate(["one", "two", "three"])}
    specs = {name: t.spec for name, t in data.items()}
    batch = MixtureSampler(data, steps=4, batch_size=6, seed=0).batch(0)
    for tokenizer, bands in ((PAPER, 1), (FITTED, 3)):
        model = Generalist.build(specs, dataclasses.replace(SMALL, tokenizer=tokenizer), seed=0)
        model.fit(data)
        found = model.preparation(batch, generator=None)
        assert len({of.alike for of in model.preparation.readings.values()}) == bands
        alone = [model.environment(name)(part)[0] for name, part in batch.parts.items()]
        assert model(found)[0].item() == pytest.approx(sum(loss.item() for loss in alone) / 3, rel=1e-5)
        short = MixtureSampler(data, steps=3, batch_size=6, seed=0).batch(0).parts["two"]
        mixed = MixedBatch({**batch.parts, "two": short})  # windows of another length are read apart
        alone = [model.environment(name)(part)[0] for name, part in mixed.parts.items()]
        assert model(mixed)[0].item() == pytest.approx(sum(loss.item() for loss in alone) / 3, rel=1e-5)


def test_held_out_episodes_that_are_too_short_are_named_with_their_environment(tmp_path):
    held_out = all_episodes() | {"Turn-v0": episodes("Turn-v0", steps=3)}
    with pytest.raises(
        ValueError, match=r"environment Turn-v0: the held-out episodes.* horizons 1, 2, context_steps 2"
    ):
        train(generalist(), mixture(), held_out, CONFIG, tmp_path, console=quiet())


# -- models of single environments ---------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", [PAPER, FITTED], ids=["paper", "fitted"])
def test_the_saved_model_of_every_environment_keeps_the_contract(tmp_path, tokenizer):
    model = generalist(tokenizer)
    model.save(tmp_path)
    loaded = Generalist.load(tmp_path)
    assert loaded.environments == tuple(SIZES)
    assert_same_weights(loaded.state_dict(), model.state_dict())
    for name in SIZES:
        one = loaded.environment(name)
        assert one.spec.terminates == (name == "Turn-v0")
        check_world_model(one, history_of(one))
        theirs = model.environment(name)
        action = history_of(one).action[:, 0]
        _, ours = one.step(one.start(history_of(one), horizon=1), action)
        _, before = theirs.step(theirs.start(history_of(one), horizon=1), action)
        assert torch.equal(ours.observation, before.observation)


def test_the_model_of_one_environment_can_be_saved_by_itself(tmp_path):
    model = generalist()
    model.environment("Turn-v0").save(tmp_path)
    alone = TransformerWorldModel.load(tmp_path)
    batch = mixture().batch(0).parts["Turn-v0"]
    assert torch.equal(alone(batch)[0], model.environment("Turn-v0")(batch)[0])


def test_an_environment_that_was_not_trained_on_needs_no_data():
    model = generalist(max_observation=6)
    unseen = spec_of(spaces.Box(-np.inf, np.inf, (6,)), spaces.MultiDiscrete([2, 4]), action_repeat=2)
    zero_shot = model.for_spec(unseen)
    assert zero_shot.network is model.network
    assert zero_shot.spec.action_repeat == 2
    check_world_model(zero_shot, history_of(zero_shot))


def test_an_environment_that_there_is_no_room_or_no_range_for_is_refused():
    unseen = spec_of(spaces.Box(-np.inf, np.inf, (6,)), spaces.Discrete(2))
    with pytest.raises(ValueError, match=r"max_observation is 5, but the environment has 6: .*raise max_"):
        generalist().for_spec(unseen)
    with pytest.raises(ValueError, match=r"fitted to data.*small-paper-tokens"):
        generalist(FITTED, max_observation=6).for_spec(unseen)
    with pytest.raises(
        LookupError, match=r"env_id is 'Fly-v0'; expected one of .*Slide-v0, Turn-v0, Push-v0"
    ):
        generalist().environment("Fly-v0")
    specs = {name: episodes(name).spec for name in SIZES}
    with pytest.raises(ValueError, match="environment Push-v0: context of 8 tokens"):
        Generalist(specs, dataclasses.replace(SMALL, context=8))
    with pytest.raises(ValueError, match="specs is empty"):
        Generalist({}, SMALL)


def test_an_environment_is_found_with_its_arguments_in_any_order():
    spec = episodes("Slide-v0").spec
    model = Generalist({"a/B-v0 body=1 dof=5": spec, "a/B-v0 body=2 dof=5": spec}, SMALL)
    assert model.environment("my_envs:a/B-v0 dof=5 body=2") is model.environment("a/B-v0 body=2 dof=5")
    with pytest.raises(LookupError, match="env_id is 'a/B-v0'; expected one of"):
        model.environment("a/B-v0")


def test_altered_files_are_refused(tmp_path):
    generalist().save(tmp_path)
    path = tmp_path / "model.json"
    value = json.loads(path.read_text())
    del value["environments"]["Turn-v0"]
    path.write_text(json.dumps(value))
    with pytest.raises(CheckpointError, match="it was altered"):
        Generalist.load(tmp_path)
    with pytest.raises(CheckpointError, match="is of a model of type 'generalist'; expected 'transformer'"):
        TransformerWorldModel.load(tmp_path)


# -- the command ---------------------------------------------------------------------------------------------


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    # Minari files are the data tests' business; here the command gets its episodes from memory, by name
    monkeypatch.setattr(
        command.Trajectories, "each_from_minari", lambda source, **_: [episodes(str(name)) for name in source]
    )
    return command.Train(data=tuple(SIZES), out=tmp_path / "run", preset="small-paper-tokens", training=QUICK)


def tune(arguments, tmp_path, **changes):
    one_step = dataclasses.replace(QUICK, steps=1, learning_rate=1e-9)
    tuned = dataclasses.replace(
        arguments, out=tmp_path / "tuned", init_from=arguments.out, training=one_step, **changes
    )
    command.run(tuned, console=quiet())
    return tuned.out


@pytest.mark.parametrize(
    ("context", "room", "expected"),
    [(9, None, 9), (8, None, 27), (30, None, 30), (30, (20, 8), 30), (29, (20, 8), 90)],
)
def test_a_context_that_holds_no_step_becomes_three(context, room, expected):
    most = {} if room is None else {"max_observation": room[0], "max_action": room[1]}
    config = dataclasses.replace(SMALL, context=context, **most)
    # the largest step is Push-v0's: 5 + 2 + 2 tokens
    assert with_room(config, {name: episodes(name).spec for name in SIZES}, None).context == expected


def test_fine_tuning_keeps_the_context_that_training_gave(arguments, tmp_path):
    one_step = dataclasses.replace(QUICK, steps=1)
    command.run(
        dataclasses.replace(
            arguments, model_settings={"max-observation": "30", "max-action": "4"}, training=one_step
        ),
        console=quiet(),
    )
    for folder in (arguments.out, tune(arguments, tmp_path, data=("Turn-v0",))):
        assert json.loads((folder / "model.json").read_text())["config"]["context"] == 4 * (30 + 4 + 2)


def test_the_command_trains_one_agent_for_three_environments(arguments):
    written = io.StringIO()
    weighted = dataclasses.replace(arguments, weights={"Slide-v0": 1, "Turn-v0": 1, "Push-v0": 2})
    result = command.run(weighted, console=Console(file=written, width=300))
    assert {f"held_out/loss/{name}" for name in SIZES} <= result.metrics.keys()
    assert "held out: Push-v0, 50% of the training" in written.getvalue()
    for name, n in SIZES.items():
        agent = TDMAgent.load(arguments.out, "random_shooting", env_id=name, horizon=2, num_samples=4)
        assert agent.env_id == name
        agent.reset()
        assert ACTIONS[name].contains(agent.act(np.zeros(n, np.float32)))
    with pytest.raises(LookupError, match="env_id is None; expected one of"):
        TDMAgent.load(arguments.out)
    with pytest.raises(ValueError, match=r"another run: shares\.Push-v0 is 0\.5 there"):
        command.run(arguments, console=quiet())


def test_a_generalist_that_the_first_release_began_goes_on(arguments):
    old = Path(__file__).parents[1] / "support" / "old_runs" / "generalist"
    shutil.copytree(old, arguments.out)
    sizes = {"layers": 1, "width": 32, "heads": 2, "feedforward": 32, "context": 30, "tokenizer.bins": 64}
    more = {"action_weight": 1.0, "reward_dropout": 1.0}
    settings = {name: str(value) for name, value in {**sizes, **more}.items()}
    result = command.run(
        dataclasses.replace(arguments, model_settings=settings, training=CONFIG), console=quiet()
    )
    assert result.step == CONFIG.steps
    ended = safetensors.torch.load_file(old / "ended.safetensors")
    torch.testing.assert_close(Generalist.load(arguments.out).state_dict(), ended)


def test_weights_of_an_environment_that_is_not_there_are_refused(arguments):
    with pytest.raises(ValueError, match="weights are for Fly-v0; expected one for each of Slide-v0"):
        command.run(dataclasses.replace(arguments, weights={"Fly-v0": 1}), console=quiet())


@pytest.mark.parametrize("name", ["Turn-v0", "Slide-v0"])
def test_a_generalist_is_fine_tuned_to_one_environment_seen_or_not(arguments, tmp_path, name):
    seen = dataclasses.replace(arguments, data=("Turn-v0", "Push-v0"))
    command.run(seen, console=quiet())
    out = tune(seen, tmp_path, data=(name,))
    tuned, source = TransformerWorldModel.load(out), Generalist.load(seen.out)
    assert tuned.spec.observation_dim == SIZES[name]
    for (key, mine), theirs in zip(
        tuned.network.state_dict().items(), source.network.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(mine, theirs, msg=key)
    assert TDMAgent.load(out).env_id == name
    tune(dataclasses.replace(seen, out=out), tmp_path / "again", data=(name,))  # what was tuned, once more


def test_fitted_tokens_are_kept_in_fine_tuning_and_no_other_body_can_have_them(arguments, tmp_path):
    fitted = dataclasses.replace(arguments, preset="small", data=("Turn-v0", "Push-v0"))
    command.run(fitted, console=quiet())
    out = tune(fitted, tmp_path, data=("Turn-v0",))
    source = Generalist.load(fitted.out).environment("Turn-v0").tokenizer.state_dict()
    assert_same_weights(TransformerWorldModel.load(out).tokenizer.state_dict(), source)
    with pytest.raises(CheckpointError, match="fitted to the data of Turn-v0, Push-v0, not of Slide-v0"):
        tune(fitted, tmp_path / "other", data=("Slide-v0",))


def test_a_generalist_that_predicts_token_by_token_does_not_become_one_of_whole_steps():
    model = generalist()
    specs = {name: model.environment(name).spec for name in model.environments}
    with pytest.raises(CheckpointError, match="predicts token by token"):
        StepGeneralist.build(specs, model.config, seed=0, source=model)
    whole = StepGeneralist.build(specs, model.config, seed=0)
    assert isinstance(whole.environment("Push-v0"), StepTransformer)
    alone = StepTransformer.build({"Push-v0": specs["Push-v0"]}, whole.config, seed=1, source=whole)
    assert_same_weights(alone.network.state_dict(), whole.network.state_dict())


def test_fine_tuning_with_another_size_is_refused(arguments, tmp_path):
    command.run(arguments, console=quiet())
    with pytest.raises(CheckpointError, match=r"config\.max_observation is 5 there and 7 here"):
        tune(arguments, tmp_path, data=("Turn-v0",), model_settings={"max_observation": "7"})
    with pytest.raises(CheckpointError, match=r"config\.tokenizer\.observation is 'mu_law' there"):
        tune(arguments, tmp_path, data=("Turn-v0",), preset="small")


def test_an_mlp_of_several_environments_is_refused(arguments):
    with pytest.raises(
        ValueError, match=r"MLPWorldModel is a model of one environment, .*Slide-v0, Turn-v0, Push-v0"
    ):
        command.run(dataclasses.replace(arguments, model="mlp", preset=None), console=quiet())
