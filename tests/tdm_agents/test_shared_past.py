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
            past = view.past[index]
            before = past[view.past_of][
                :, :, (view.past_start + torch.arange(view.past_seen)) % past.shape[2]
            ]
            now = own[:, :, (view.start + torch.arange(view.seen - view.past_seen)) % own.shape[2]]
            seen = torch.cat([before, now], dim=2)
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


def test_what_is_shared_is_not_copied():
    capacity = Capacity(step=4, band=12, most=12, offset=0, whole=False)
    rows = Rows(HISTORY.imagined(3, capacity), [[], [], []])
    rows.append(4, 1)
    assert rows.cache.layers is not None
    shared = [layer.data_ptr() for layer in rows.cache.layers]
    taken = rows.take([2, 2, 0]).take([1, 1, 2, 0])
    for cache in (rows.cache, taken.cache):
        assert cache.layers is None
        assert cache.past is not None
        assert [layer.data_ptr() for layer in cache.past.layers] == shared
    taken.append(1, 100)
    again = taken.take([3, 0])  # a token of their own: it is copied, and the past is not
    assert again.cache.past is not None
    assert [layer.data_ptr() for layer in again.cache.past.layers] == shared
    assert again.cache.nbytes < 2 * 2 * LAYERS * 12 * WIDTH * 4 + sum(
        layer.nbytes for layer in again.cache.past.layers
    )


def test_a_step_of_their_own_is_joined_with_the_past():
    """So that no row holds on to rows that nobody continues, and what is copied per token stays small."""
    capacity = Capacity(step=4, band=12, most=12, offset=0, whole=False)
    rows = Rows(HISTORY.imagined(64, capacity), [[] for _ in range(64)])
    rows.append(4, 1)
    taken = rows.take([5, 9])
    taken.append(4, 1000)
    kept = taken.take([1])
    assert kept.cache.nbytes == 2 * LAYERS * 12 * WIDTH * 4
    for _ in range(3):
        taken.append(2, 2000)
    assert taken.cache.past is None
