"""A packed cache shows every token what is inside its band, in memory that is fixed at the start."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tdm_agents.world_models.transformer.decoding.cache import Capacity
from tdm_agents.world_models.transformer.decoding.packed_caches import PackedHistory, PackedImagined, ahead
from tdm_agents.world_models.transformer.decoding.products import put
from tdm_agents.world_models.transformer.layout import StepLayout

HEADS, HEAD_DIM, LAYERS = 2, 3, 2
HISTORY = PackedHistory(tuple(torch.zeros(2, HEADS, 1, 4, HEAD_DIM) for _ in range(LAYERS)), None)


class Rows:
    """Appends tokens as a forward does; their keys and values are their numbers, apart per layer and row."""

    def __init__(self, layout, band_steps, horizon, rows=2):
        self.layout, self.band_steps, self.rows = layout, band_steps, rows
        self.cache = PackedImagined(HISTORY, rows, Capacity.of(horizon, band_steps, layout))
        self.time = 0

    def numbers(self, first, count):
        shape = (2, HEADS, self.rows, count, HEAD_DIM)
        number = torch.arange(first, first + count, dtype=torch.float32)[:, None] + 1
        return (number + 1000 * torch.arange(self.rows)[:, None, None]).expand(shape)

    def append(self, offset, chunk):
        """Returns what each of the new tokens sees, of the first layer's first row, in order of numbers."""
        written = self.time * self.layout.tokens + offset + chunk - self.layout.observation_dim
        inside = min(written, (self.band_steps - 1) * self.layout.tokens + offset + chunk)
        cache = self.cache
        assert cache.written == written - chunk
        cache.make_room(chunk, keep=inside - chunk)
        mask = cache.mask(chunk, inside)
        for index, layer in enumerate(cache.layers):
            put(layer, self.numbers(written - chunk, chunk) + 1e5 * index, cache.place)
        cache.written += chunk
        if mask is None:
            mask = torch.zeros(chunk, cache.length)
        first = cache.layers[0][0, 0, 0, :, 0]
        return [sorted(first[row == 0].tolist()) for row in mask], written, inside

    def check(self, offset, chunk):
        seen, written, inside = self.append(offset, chunk)
        for i, numbers in enumerate(seen):
            last = written - chunk + i + 1
            assert numbers == list(range(written - inside + 1, last + 1))


@given(
    n=st.integers(1, 5),
    m=st.integers(1, 2),
    band_steps=st.integers(2, 6),
    horizon=st.integers(1, 12),
    together=st.booleans(),
)
def test_every_token_sees_its_band(n, m, band_steps, horizon, together):
    layout = StepLayout(observation_dim=n, action_dim=m, max_observation=n)
    rows = Rows(layout, band_steps, horizon)
    blocks = {block.data_ptr() for block in rows.cache._blocks}
    size = rows.cache.nbytes
    for _ in range(horizon):
        rows.check(n, layout.chunk)
        rows.time += 1
        if together:  # two rounds of guesses: the second is written over the first
            rows.check(0, n)
            rows.cache.written -= n
            rows.check(0, n)
        else:
            for i in range(n):
                rows.check(i, 1)
        for layer in rows.cache.layers:
            assert layer.is_contiguous()
            assert layer.isfinite().all()
    assert rows.cache.length <= Capacity.of(horizon, band_steps, layout).most
    assert rows.cache.nbytes == size
    assert {block.data_ptr() for block in rows.cache._blocks} == blocks


@pytest.mark.parametrize("steps", [1, 2, 5])  # before and after the band is full
def test_copies_are_independent(steps):
    layout = StepLayout(observation_dim=3, action_dim=1, max_observation=3)
    rows = Rows(layout, 3, 8, rows=3)
    for _ in range(steps):
        rows.append(3, layout.chunk)
        rows.time += 1
        rows.append(0, 3)
    before = [layer.clone() for layer in rows.cache.layers]
    order = torch.tensor([2, 0, 2, 1])
    other = rows.cache.take(order)
    rows.append(3, layout.chunk)
    for index, layer in enumerate(other.layers):
        assert torch.equal(layer, before[index][:, :, order])
    assert (other.written, rows.cache.written) == (steps * 6, steps * 6 + layout.chunk)
    copied = Rows(layout, 3, 8, rows=4)
    copied.cache, copied.time = other, rows.time
    seen, written, inside = copied.append(3, layout.chunk)
    old = range(written - inside + 1, written - layout.chunk + 1)  # of row 2
    new = range(written - layout.chunk + 1, written + 1)
    assert seen[-1] == sorted([*(2000 + number for number in old), *new])


@pytest.mark.parametrize("keep", [0, 5, 12])
def test_what_is_known_is_held(keep):
    layout = StepLayout(observation_dim=3, action_dim=1, max_observation=3)
    rows = Rows(layout, 3, 8)
    rows.time, written = 4, 24
    rows.cache = PackedImagined.holding(
        HISTORY,
        2,
        Capacity.of(8, 3, layout),
        written=written,
        keep=keep,
        layers=(rows.numbers(written - keep, keep) for _ in range(LAYERS)),
    )
    seen, _, _ = rows.append(3, layout.chunk)
    known = [number for number in seen[-1] if number]  # elsewhere in the band are zeros
    assert known == list(range(written - keep + 1, written + layout.chunk + 1))


@pytest.mark.parametrize(("keep", "tokens"), [(0, 16), (32, 16), (72, 24), (800, 80)])
def test_room_is_whole_steps_and_grows_with_the_root_of_what_is_kept(keep, tokens):
    assert ahead(keep, 8) == tokens
    assert ahead(keep, 100) == 100


def test_most_tokens_are_those_of_the_horizon_or_of_the_band():
    layout = StepLayout(observation_dim=5, action_dim=1, max_observation=5)
    assert Capacity.of(20, 1000, layout).most == 20 * layout.tokens + layout.chunk
    assert Capacity.of(1000, 10, layout).most == 80
