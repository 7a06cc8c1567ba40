"""Rows that are taken, from each other and again, see what they imagined and nothing else."""

from dataclasses import dataclass

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tdm_agents.world_models.transformer.cpu.loop_caches import PanelHistory, RingImagined
from tdm_agents.world_models.transformer.decoding.cache import Capacity
from tdm_agents.world_models.transformer.decoding.grouping import Grouping

LAYERS, WIDTH = 2, 4
HISTORY = PanelHistory.of([torch.zeros(2, 1, 1, 5, WIDTH) for _ in range(LAYERS)], None)


@dataclass
class Rows:
    """A cache, and the numbers of the tokens that each of its rows imagined, which are written as keys."""

    cache: RingImagined
    numbers: list[list[int]]

    def append(self, chunk: int, first: int) -> None:
        """Write the next tokens of every row, as the compiled loop does."""
        count, band = len(self.numbers), self.cache._capacity.band
        self.numbers = [
            [*row, *range(first + i * chunk, first + (i + 1) * chunk)] for i, row in enumerate(self.numbers)
        ]
        inside = min(band, len(self.numbers[0]))
        groups = Grouping.of(torch.zeros(count, dtype=torch.int64), 1)
        view = self.cache.view(groups, (), first=0, chunk=chunk, inside=inside)
        new = torch.tensor(self.numbers)[:, -chunk:, None].float()
        for index, own in enumerate(view.own):
            places = (view.place + torch.arange(chunk)) % own.shape[2]
            own[:, 0, places], own[:, 1, places] = new + 0.25 * index, -new - 0.25 * index
            before = [torch.empty(count, 2, 0, WIDTH)]
            for part, (*_, size, start, seen) in zip(view.past, view.past_table(index).tolist(), strict=True):
                before.append(part.layers[index][part.rows][:, :, (start + torch.arange(seen)) % size])
            mine = view.seen - sum(part.shape[2] for part in before)
            now = own[:, :, (view.start + torch.arange(mine)) % own.shape[2]]
            seen = torch.cat([*before, now], dim=2)
            expected = torch.tensor(self.numbers)[:, -inside:, None].float() + 0.25 * index
            assert torch.equal(seen[:, 0], expected.expand(-1, -1, WIDTH))
            assert torch.equal(seen[:, 1], -expected.expand(-1, -1, WIDTH))
        self.cache.written += chunk

    def take(self, rows: list[int]) -> "Rows":
        return Rows(self.cache.take(torch.tensor(rows)), [self.numbers[row].copy() for row in rows])


@settings(deadline=None)
@given(
    step=st.integers(1, 6),
    band_steps=st.integers(1, 4),
    actions=st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(0, 9), st.integers(1, 3)),
            st.tuples(st.just("again"), st.integers(0, 9), st.integers(1, 3)),
            st.tuples(
                st.just("take"), st.integers(0, 9), st.lists(st.integers(0, 9), min_size=1, max_size=6)
            ),
        ),
        max_size=40,
    ),
)
def test_rows_see_what_they_imagined(step, band_steps, actions):
    capacity = Capacity(step=step, band=step * band_steps, most=step * band_steps, offset=0, whole=False)
    every, number = [Rows(HISTORY.imagined(2, capacity), [[], []])], 1
    for name, which, argument in actions:
        rows = every[which % len(every)]
        if name == "take":
            every.append(rows.take([row % len(rows.numbers) for row in argument]))
            continue
        chunk = min(argument, step)
        rows.append(chunk, number)
        number += 6 * chunk
        if name == "again":  # a guess, and a better one in its place
            rows.cache.written -= chunk
            rows.numbers = [row[:-chunk] for row in rows.numbers]
            rows.append(chunk, number)
            number += 6 * chunk
    for rows in every:
        rows.append(1, number)
        number += 6


def pointers(layers):
    return [layer.data_ptr() for layer in layers]


def test_what_is_shared_is_not_copied():
    capacity = Capacity(step=4, band=12, most=12, offset=0, whole=False)
    rows = Rows(HISTORY.imagined(3, capacity), [[], [], []])
    rows.append(4, 1)
    assert rows.cache.layers is not None
    shared = pointers(rows.cache.layers)
    taken = rows.take([2, 2, 0]).take([1, 1, 2, 0])
    for cache in (rows.cache, taken.cache):
        assert cache.layers is None
        assert [pointers(past.layers) for past in cache.past] == [shared]
    taken.append(1, 100)
    again = taken.take([3, 0])  # a token of their own is copied
    assert again.cache.layers is not None
    assert taken.cache.layers is not None
    assert again.cache.layers[0].data_ptr() != taken.cache.layers[0].data_ptr()
    assert [pointers(past.layers) for past in again.cache.past] == [shared]
    again.append(2, 200)  # more than half a step is not
    mine = pointers(again.cache.layers)
    assert [pointers(past.layers) for past in again.take([0, 0, 1]).cache.past] == [shared, mine]


def test_what_has_left_the_band_is_forgotten():
    capacity = Capacity(step=4, band=8, most=8, offset=0, whole=False)
    rows = Rows(HISTORY.imagined(2, capacity), [[], []])
    for step in range(6):
        rows.append(4, 1 + 100 * step)
        rows = rows.take([1, 0, 0])
        assert len(rows.cache.past) == min(step + 1, 2)


def test_rows_that_go_on_get_room_for_all_of_the_band():
    capacity = Capacity(step=4, band=8, most=8, offset=0, whole=False)
    rows = Rows(HISTORY.imagined(2, capacity), [[], []])
    rows.append(4, 1)
    rows = rows.take([0])
    tokens = []
    for chunk in range(8):
        rows.append(2, 100 * (1 + chunk))
        assert rows.cache.layers is not None
        tokens.append(rows.cache.layers[0].shape[2])
    assert tokens == [4, 4, 8, 8, 8, 8, 8, 8]
    assert len(rows.cache.past) == 2
