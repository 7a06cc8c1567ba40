"""Which environment reset seeds are for what, so that no evaluation episode was ever seen before.

The three ranges are disjoint. Collection draws from :data:`COLLECTION_FIRST` upwards; settings are tuned on
:data:`TUNING_FIRST` and up, and frozen before :data:`EVALUATION_FIRST` and up is looked at.
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
    """The generator of one collected episode; a function of its key alone, so any worker may run it.

    Args:
        seed: Of the whole collection, at least 0.
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
