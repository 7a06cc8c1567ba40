"""The purposes of environment reset seeds, so that no evaluation episode was ever seen before.

The three ranges are disjoint. Collection draws from :data:`COLLECTION_FIRST` on. Settings are tuned on seeds
from :data:`TUNING_FIRST` on, and frozen before those from :data:`EVALUATION_FIRST` on are used.
"""

from __future__ import annotations

import zlib

import numpy as np

EVALUATION_FIRST = 0
EVALUATION_LAST = 9_999
TUNING_FIRST = 10_000
TUNING_LAST = 19_999
COLLECTION_FIRST = 1_000_000
COLLECTION_LAST = 2**31 - 1  # dm_control seeds a RandomState, which takes 32 bits


def episode_rng(
    seed: int, policy: str, index: int, *, environment: str = "", attempt: int = 0
) -> np.random.Generator:
    """The generator of one collected episode, a function of only its key, so that any worker may play it.

    Args:
        seed: Seed of the whole collection, at least 0.
        policy: Name of the policy that acts.
        index: Number of the episode among those of its policy.
        environment: Name of the environment among those of the collection.
        attempt: How many times the episode was played before and failed.
    """
    # crc32, because str hashes differ between processes
    key = (zlib.crc32(environment.encode()),) if environment else ()
    entropy = [seed, zlib.crc32(policy.encode()), index, attempt]
    return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=key))


def draw_reset_seed(rng: np.random.Generator) -> int:
    """A reset seed of the collection range."""
    return int(rng.integers(COLLECTION_FIRST, COLLECTION_LAST, endpoint=True))
