"""The search without a cache is the same search: otherwise its time would say nothing."""

import torch

from beam_search_speed import Settings, decided, hopper
from speed.uncached_search import UncachedSearch


def test_both_searches_find_the_same():
    settings = Settings(observation_dim=2, action_dim=1, context=2, horizon=3, beam_width=4)
    model, history = hopper(settings)
    _, ours = decided(model, history, settings)
    _, theirs = decided(UncachedSearch(model), history, settings)
    assert ours.shape == (1, 3, 1) and torch.equal(ours, theirs)
