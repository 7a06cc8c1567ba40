"""A suffix keeps what was written through every packing, in memory that is fixed at the start."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tdm_agents.world_models.transformer.cache import Prefix, put
from tdm_agents.world_models.transformer.layout import StepLayout
from tdm_agents.world_models.transformer.suffix import Suffix, ahead, most_tokens

HEADS, HEAD_DIM, LAYERS, STEP = 2, 3, 2, 8
PREFIX = Prefix(tuple(torch.zeros(2, HEADS, 1, 4, HEAD_DIM) for _ in range(LAYERS)), None)


def fresh(tokens, rows):
    """Keys and values of new tokens, all different."""
    return torch.rand((LAYERS, 2, HEADS, rows, tokens, HEAD_DIM))


def append(suffix, tokens, keep):
    """Write them, as a forward does; returns what was written."""
    suffix.make_room(tokens, keep=keep, step=STEP)
    new = fresh(tokens, suffix.layers[0].shape[2])
    for index in range(LAYERS):
        put(suffix.layers[index], new[index], suffix.used)
    suffix.used += tokens
    return new


@given(
    chunks=st.lists(st.integers(1, STEP), min_size=1, max_size=60),
    band=st.sampled_from([STEP, 3 * STEP, 1000]),
    rows=st.integers(1, 3),
)
def test_what_is_inside_the_band_is_kept(chunks, band, rows):
    steps = -(-sum(chunks) // STEP)
    most = min(steps * STEP + STEP, band + ahead(band, STEP))
    suffix = Suffix(PREFIX, rows, most)
    blocks = {layer.untyped_storage().data_ptr() for layer in suffix.layers}
    size = suffix.nbytes
    written = fresh(0, rows)
    for chunk in chunks:
        inside = min(written.shape[4], band - chunk)
        written = torch.cat([written, append(suffix, chunk, inside)], dim=4)
        expected = written[..., -(inside + chunk) :, :]
        for index, layer in enumerate(suffix.layers):
            assert torch.equal(layer[..., suffix.used - inside - chunk : suffix.used, :], expected[index])
            assert not layer[..., suffix.used :, :].any() and layer.is_contiguous()
        assert suffix.capacity <= most
    assert suffix.nbytes == size
    assert len(blocks | {layer.untyped_storage().data_ptr() for layer in suffix.layers}) <= LAYERS + 1


def test_copies_are_independent():
    suffix = Suffix(PREFIX, 3, 4 * STEP)
    before = append(suffix, STEP, 0)
    other = suffix.take(torch.tensor([2, 0, 2, 1]))
    append(suffix, 2, STEP)
    for index, layer in enumerate(other.layers):
        assert torch.equal(layer[:, :, :, :STEP], before[index][:, :, [2, 0, 2, 1]])
        assert not layer[:, :, :, STEP:].any()
    assert (other.used, suffix.used) == (STEP, STEP + 2)


def test_a_copy_of_nothing_has_room():
    other = Suffix(PREFIX, 2, 2 * STEP).take(torch.tensor([0]))
    append(other, STEP, 0)
    assert other.used == STEP


@pytest.mark.parametrize(("keep", "tokens"), [(0, 16), (32, 16), (72, 24), (800, 80)])
def test_room_is_whole_steps_and_grows_with_the_root_of_what_is_kept(keep, tokens):
    assert ahead(keep, STEP) == tokens
    assert ahead(keep, 100) == 100


def test_most_tokens_are_those_of_the_horizon_or_of_the_band():
    layout = StepLayout(observation_dim=5, action_dim=1, max_observation=5)
    assert most_tokens(20, 1000, layout) == 20 * layout.tokens + layout.chunk
    assert most_tokens(1000, 10, layout) == 80 + ahead(80, 8)
