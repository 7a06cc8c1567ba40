"""Imagination with weights in bfloat16: nearly the same numbers, and refused where it is impossible."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_transformer import make_history, make_model

from tdm_agents.data.windows import WindowSampler
from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import History
from tdm_agents.testing import recorded_episodes
from tdm_agents.update_settings import UpdateSettings
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.cpu import tiles
from tdm_agents.world_models.transformer.cpu.loop_caches import RingImagined
from tdm_agents.world_models.transformer.cpu.loop_view import LoopView
from tdm_agents.world_models.transformer.cpu.means import means_near_modes
from tdm_agents.world_models.transformer.cpu.packed_network import PackedNetwork
from tdm_agents.world_models.transformer.cpu.tiled_caches import TiledImagined, TiledView
from tdm_agents.world_models.transformer.decoding.options import DecodingOptions
from tdm_agents.world_models.transformer.decoding.reading import mean_near_mode
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.network import NetworkConfig, TransformerNetwork

TINY = TransformerConfig(layers=1, width=32, heads=2, feedforward=32, context=30)
needs_tiles = pytest.mark.skipif(not tiles.has_tiles(), reason="this processor has no AMX for bfloat16")


def rounded(x):
    return x.to(torch.bfloat16).double()


@needs_tiles
@pytest.mark.parametrize(("rows", "width", "bins"), [(1, 32, 32), (33, 24, 50), (7, 100, 1024)])
def test_products_of_the_head_are_those_of_rounded_numbers(rows, width, bins):
    config = NetworkConfig(1, width, 1, 8, bins, 1, 1)
    network = TransformerNetwork(config)
    hidden = torch.randn((2, rows, width), generator=torch.Generator().manual_seed(0))
    got = PackedNetwork.of(network).logits(hidden)
    expected = rounded(hidden) @ rounded(network.head.weight.detach()).T
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)


@needs_tiles
@pytest.mark.parametrize(("heads", "width", "feedforward"), [(2, 32, 48), (2, 48, 20), (4, 96, 192)])
@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_hidden_states_are_close_to_those_of_float32(heads, width, feedforward, outputs):
    model = make_model(heads=heads, width=width, feedforward=feedforward, layers=2)
    past, rows = make_history(model, [3, 1]), torch.arange(2).repeat_interleave(21)
    found = []
    for bf16 in (False, True):
        other = model.with_decoding(bf16=bf16)
        state = other.take(other.start(past, horizon=2), rows).consume()
        tokens = torch.arange(42 * 3).view(42, 3) % 16
        decoder = other.decoder
        found += [decoder.extend(state, tokens, offset=decoder.layout.observation_dim, outputs=outputs)]
    assert found[0].shape == (42, outputs, width)
    assert (found[0] - found[1]).abs().max() < 0.1  # normalised: their mean square is 1
    assert (found[0] - found[1]).abs().mean() < 0.015


@needs_tiles
@pytest.mark.parametrize("read", ["sample", "mode", "mean"])
@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("context", [24, 1023])
def test_imagined_steps_are_close_to_those_of_float32(read, parallel, context):
    model = make_model(context=context, read=read, parallel=parallel)
    past, rows = make_history(model, [3, 1]), torch.arange(2).repeat_interleave(8)
    actions = torch.rand((16, 8, 1), generator=torch.Generator().manual_seed(0)) * 2 - 1

    def imagine(bf16):
        other = model.with_decoding(bf16=bf16)
        state = other.take(other.start(past, horizon=8), rows)
        return other.rollout(state, actions, generator=torch.Generator().manual_seed(0))

    ours, theirs = imagine(True), imagine(False)
    assert isinstance(ours.state.imagined, TiledImagined)
    assert type(theirs.state.imagined) is RingImagined
    spread = theirs.observation.std()
    assert (ours.observation - theirs.observation).abs().median() < 0.05 * spread
    assert torch.equal(ours.alive, theirs.alive)


@needs_tiles
def test_guessing_together_finds_what_reading_one_after_another_finds():
    model = make_model(read="mode", bf16=True)
    past, actions = make_history(model, [3]), torch.linspace(-1, 1, 5).view(1, 5, 1)
    found = [
        other.rollout(other.start(past, horizon=5), actions).observation
        for other in (model.with_decoding(parallel=parallel) for parallel in (False, True))
    ]
    assert torch.equal(*found)


@needs_tiles
def test_a_copy_has_buffers_of_its_own():
    model = make_model(context=24, read="mode", bf16=True)
    state = model.start(make_history(model, [3]), horizon=6)
    state, _ = model.step(model.take(state, torch.zeros(3, dtype=torch.int64)), torch.zeros(3, 1))
    other = model.take(state, torch.tensor([2, 0]))
    _, expected = model.step(model.take(other, torch.arange(2)), torch.ones(2, 1))
    for _ in range(3):  # around the band
        state, _ = model.step(state, -torch.ones(3, 1))
    _, got = model.step(other, torch.ones(2, 1))
    assert torch.equal(got.observation, expected.observation)


@needs_tiles
@pytest.mark.parametrize("rows", [1, 9, 40])
def test_threads_change_nothing(rows):
    before = torch.get_num_threads()
    model = make_model(read="mode", bf16=True)
    state = model.start(make_history(model, [3]), horizon=5)
    actions = torch.linspace(-1, 1, rows * 5).view(rows, 5, 1)
    found = []
    try:
        for threads in (1, *[2] * 10):  # threads that disturb each other seldom do so every time
            torch.set_num_threads(threads)
            fork = model.take(state, torch.zeros(rows, dtype=torch.int64))
            found.append(model.rollout(fork, actions).observation)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, found[0]) for one in found)


@needs_tiles
def test_weights_are_packed_once_and_again_when_they_change():
    model = make_model(bf16=True)
    first = PackedNetwork.of(model.network)
    assert PackedNetwork.of(model.network) is first
    with torch.no_grad():
        model.network.head.weight.mul_(2)
    second = PackedNetwork.of(model.network)
    hidden = torch.randn((1, model.network.config.width), generator=torch.Generator().manual_seed(0))
    assert torch.equal(second.logits(hidden), 2 * first.logits(hidden))


@needs_tiles
def test_what_is_not_a_number_is_not_hidden():
    model = make_model(bf16=True)
    hidden = torch.ones((2, model.network.config.width))
    hidden[0, 3] = torch.nan
    logits = PackedNetwork.of(model.network).logits(hidden)
    assert logits.isnan().all(dim=1).tolist() == [True, False]


@needs_tiles
def test_the_loop_is_used_where_asked_for():
    for bf16, kind in ((True, TiledView), (False, LoopView)):
        model = make_model(bf16=bf16)
        state = model.start(make_history(model, [2]), horizon=2).consume()
        assert isinstance(state.view(model.network, offset=5, chunk=3), kind)


@pytest.mark.parametrize("other", [{"capture": "eager"}, {"attention": "products"}])
def test_options_that_exclude_it_are_refused(other):
    with pytest.raises(WrongValueError, match="it needs attention='fused' and capture='no'"):
        DecodingOptions(bf16=True, **other)


def test_a_processor_without_it_is_refused_and_chooses_float32(monkeypatch):
    monkeypatch.setattr(tiles, "has_tiles", lambda: False)
    model = make_model(bf16=True)
    with pytest.raises(WrongValueError, match=r"no AMX for bfloat16.*leave it at None"):
        model.start(make_history(model, [2]), horizon=2)
    model = model.with_decoding(bf16=None)
    state = model.start(make_history(model, [2]), horizon=2)
    assert type(state.consume().imagined) is RingImagined


def test_other_numbers_are_refused():
    model = make_model(bf16=True)
    model.network.to(torch.float64)
    with pytest.raises(WrongValueError, match=r"weights are torch\.float64 on cpu"):
        model.start(make_history(model, [2]), horizon=2)


@settings(deadline=None)
@given(
    bins=st.integers(1, 90),
    window=st.integers(0, 40),
    scale=st.floats(0.01, 20.0),
    seed=st.integers(0, 2**31),
)
def test_means_are_those_of_float64(bins, window, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn((3, 4, bins), generator=generator)
    centres = torch.randn((4, bins), generator=generator)
    expected = mean_near_mode(logits.double(), centres.double(), window)
    torch.testing.assert_close(
        means_near_modes(logits, centres, window).double(), expected, rtol=1e-5, atol=1e-5
    )


def test_the_mean_of_what_is_not_a_number_is_none():
    logits = torch.zeros((2, 64))
    logits[1] = torch.nan
    assert means_near_modes(logits, torch.ones(64), 3).isnan().tolist() == [False, True]


@needs_tiles
@pytest.mark.parametrize("ours", [True, False])
def test_weights_are_packed_again_after_an_update(ours):
    """Of our training, or of another loop with a fused optimizer, whose changes PyTorch does not count."""
    data = recorded_episodes()
    model = TransformerWorldModel.build({"one": data.spec}, TINY, seed=0)
    model.fit({"one": data})
    settings = UpdateSettings(steps=3, learning_rate=1e-2, warmup_steps=1)
    optimizers = model.optimizers(settings)
    batch, generator = WindowSampler(data, steps=5, batch_size=8, seed=0).batch(0), torch.Generator()
    model.eval()
    assert model.decoder.weights is PackedNetwork.of(model.network)
    for step in range(3):
        packed = model.decoder.weights
        assert model.decoder.weights is packed
        if ours:
            model.update(batch, optimizers, step=step, settings=settings, generator=generator)
        else:
            model(batch, generator=generator)[0].backward()
            optimizers["adamw"].step()
        assert model.decoder.weights is not packed
    history = History.of_observation(torch.zeros(1, 2), action_dim=1)
    found = [
        one.rollout(one.start(history, horizon=3), torch.ones(1, 3, 1)).observation
        for one in (model, copy.deepcopy(model))
    ]
    assert torch.equal(*found)
