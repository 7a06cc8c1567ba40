"""The contract of learned models: ours and strangers' keep it, and a run of any of them survives a kill."""

from __future__ import annotations

import dataclasses
import io
import multiprocessing
import random
import runpy
import signal
import time

import pytest
import torch
from latent_dynamics import LatentModel
from quadratic_dynamics import QuadraticModel
from rich.console import Console
from two_optimizers import TwoConfig, TwoOptimizers

from tdm_agents.data.sampled_steps import SampledSteps
from tdm_agents.data.windows import WindowSampler
from tdm_agents.protocols import TrainableModel
from tdm_agents.testing import LinearQuadraticModel, check_trainable_model, recorded_episodes
from tdm_agents.training import run_state
from tdm_agents.training.train_config import TrainConfig
from tdm_agents.training.trainer import train
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.generalist import Generalist
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.step_generalist import StepGeneralist
from tdm_agents.world_models.transformer.step_model import StepTransformer
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

TINY = TransformerConfig(
    layers=1, width=16, heads=2, feedforward=16, context=30, tokenizer=TokenizerConfig(bins=64)
)
COUNTED = TokenizerConfig(observation="equal_counts", target="absolute", bins=32)
SEVERAL = {
    "one": recorded_episodes(),
    "two": recorded_episodes(model=LinearQuadraticModel(action_dim=2), seed=1),
    "levels": recorded_episodes(model=LinearQuadraticModel(choices=3), seed=2),
}
RUN = TrainConfig(
    steps=40,
    batch_size=4,
    window_steps=5,
    warmup_steps=2,
    checkpoint_every=1,
    evaluate_every=10**6,
    learning_rate=1e-2,
)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (MLPWorldModel, {"config": MLPConfig(hidden=8, layers=1)}),
        (TransformerWorldModel, {"config": TINY}),
        (TransformerWorldModel, {"config": dataclasses.replace(TINY, tokenizer=COUNTED)}),
        (StepTransformer, {"config": TINY}),
        (Generalist, {"config": TINY, "data": SEVERAL}),
        (Generalist, {"config": TINY}),
        (StepGeneralist, {"config": TINY, "data": SEVERAL}),
        (QuadraticModel, {"learns": False, "learning_rate": 1e-4}),
        (LatentModel, {"learning_rate": 3e-3}),
        (TwoOptimizers, {}),
    ],
    ids=[
        "mlp",
        "transformer",
        "bins of equal counts",
        "step_transformer",
        "generalist",
        "generalist of one",
        "step_generalist",
        "a plug-in",
        "a latent plug-in",
        "without our base class",
    ],
)
def test_it_keeps_the_contract_of_learned_models(kind, options):
    check_trainable_model(kind, **options)


# -- models that break one contract each ---------------------------------------------------------------------


class ForgetsItsTarget(TwoOptimizers):
    def state_dict(self, *args, **kwargs):
        return {k: v for k, v in super().state_dict(*args, **kwargs).items() if not k.startswith("target")}

    def load_state_dict(self, state_dict, strict=False, assign=False):
        return super().load_state_dict(state_dict, strict=False, assign=assign)


class DrawsGlobally(TwoOptimizers):
    def forward(self, batch, *, generator=None):
        torch.rand(())
        return super().forward(batch)


class TakesNaN(TwoOptimizers):
    def update(self, batch, optimizers, *, step, settings, generator):
        loss, _ = self(batch)
        self.zero_grad()
        loss.backward()
        for optimizer in optimizers.values():
            optimizer.step()
        return {"loss": float(loss)}


class NeedsASize(TwoOptimizers):
    config_type = dataclasses.make_dataclass("Sized", ["size"], frozen=True)


class SaysNothing(TwoOptimizers):
    @classmethod
    def build(cls, specs, config, *, seed, source=None):
        if len(specs) != 1:
            raise ValueError("one environment only")
        return super().build(specs, config, seed=seed, source=source)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (ForgetsItsTarget, "updates that go on from saved weights and optimizers give other weights"),
        (DrawsGlobally, "draws from torch's global randomness"),
        (TakesNaN, "takes a loss of NaN"),
        (NeedsASize, "size has no default"),
        (SaysNothing, "refuses several environments without naming them"),
    ],
)
def test_the_check_finds_what_it_is_there_for(kind, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_trainable_model(kind)


# -- two optimizers and a target network ---------------------------------------------------------------------


def two(seed=0):
    data = recorded_episodes()
    return TwoOptimizers.build({"any": data.spec}, TwoConfig(), seed=seed)


def run(folder, config=RUN, seed=0):
    model = two(seed)
    sampler = WindowSampler(
        recorded_episodes(), steps=config.window_steps, batch_size=config.batch_size, seed=0
    )
    train(model, sampler, None, config, folder, console=Console(file=io.StringIO()))
    return model


def test_two_optimizers_and_a_target_network_survive_sigkill_with_the_same_bits(tmp_path):
    whole = run(tmp_path / "whole", dataclasses.replace(RUN, checkpoint_every=RUN.steps))
    folder, rng, kills = tmp_path / "killed", random.Random(0), 0
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tdm_agents.training.trainer", "torch._dynamo", "quadratic_dynamics"])
    while True:
        pointer = folder / "checkpoint.json"
        before = pointer.stat().st_mtime_ns if pointer.exists() else 0
        names = {"init_globals": {"folder": folder}, "run_name": "train_to_the_end"}
        process = processes.Process(target=runpy.run_path, args=(__file__,), kwargs=names)
        process.start()
        if kills < 3:
            while process.is_alive() and (not pointer.exists() or pointer.stat().st_mtime_ns == before):
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.1))
            process.kill()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        kills += 1
    assert kills >= 1
    ended = TwoOptimizers.load(folder).state_dict()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, ended[name]), name
    state = run_state.load(folder).optimizers.tensors
    assert {key.split("/")[0] for key in state} == {"dynamics", "values"}


def test_it_is_a_trainable_model_by_structure_alone():
    assert isinstance(two(), TrainableModel)
    assert not isinstance(LinearQuadraticModel(), TrainableModel)


# -- a sample of the data is enough --------------------------------------------------------------------------


def test_all_steps_are_read_where_there_are_few_and_an_even_sample_where_there_are_many():
    data = recorded_episodes(episodes=50, steps=20)
    every = SampledSteps(data)
    first = next(iter(every.observations()))
    assert len(every) == 50 * 20 and (first == data.parts[0].observation[:, 0]).all()
    changes = next(iter(SampledSteps(data, with_next=True).changes()))
    assert len(changes) == 50 * 19
    some = SampledSteps(data, with_next=True, most=100, seed=3)
    assert len(some) == 100
    rows = torch.from_numpy(some._parts[0][2])
    assert len(rows.unique()) == 100 and (rows % 20 < 19).all()
    assert (rows // 200).bincount(minlength=5).tolist() == [20] * 5  # evenly over the episodes


if __name__ == "train_to_the_end":
    run(globals()["folder"])
