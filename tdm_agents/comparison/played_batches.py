"""Batches of episodes as the tasks of a pool, which plays them side by side with the same results.

A worker makes the contestant anew from its entry, so that no model is sent. What comes out is a function of
the batch alone, and a worker refuses to play where that would not hold: with other files or versions.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tdm_agents.actors.entries import Entry
from tdm_agents.collection.pool import Pool
from tdm_agents.comparison.matches import (
    Match,
    Rules,
    batches_of,
    keep,
    match_of,
    part_path,
    play_batch,
)
from tdm_agents.environments import EnvRef
from tdm_agents.errors import WrongValueError, brief
from tdm_agents.evaluation.records import Evaluation, joined


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of episodes to be played.

    Attributes:
        entry: The contestant.
        env: The environment.
        rules: Seeds and settings of the whole match.
        first: Index of its first episode.
        what: Everything that its result depends on.
    """

    entry: Entry
    env: EnvRef
    rules: Rules
    first: int
    what: dict[str, Any]

    def __str__(self) -> str:
        seeds = self.what["seeds"]
        return f"{self.entry.label or self.entry.kind} in {self.env}, seeds {seeds[0]} to {seeds[-1]}"


@dataclass(frozen=True, slots=True)
class Played:
    """A batch that was played."""

    batch: Batch
    evaluation: Evaluation


def play_missing(
    matches: Sequence[Match], rules: Rules, folder: Path, pool: Pool, watch: Callable[[Batch], None]
) -> None:
    """Play the batches that are not kept in the folder of a comparison, and keep each as soon as it ends.

    Args:
        matches: The matches.
        rules: Seeds and settings.
        folder: Folder of the comparison; only this process writes to it.
        pool: Who plays.
        watch: Called for every batch that was played.

    Raises:
        ValueError: If a worker has other files or versions, or a contestant cannot play.
    """
    for played in pool.imap_unordered(play, missing(matches, rules, folder)):
        keep(part_path(folder, played.batch.what), played.batch.what, played.evaluation)
        watch(played.batch)


def missing(matches: Sequence[Match], rules: Rules, folder: Path) -> list[Batch]:
    """The batches that are not kept in the folder of a comparison."""
    batches = [batch for match in matches for batch in all_batches(match, rules)]
    return [batch for batch in batches if not part_path(folder, batch.what).exists()]


def all_batches(match: Match, rules: Rules) -> list[Batch]:
    """The batches of a match."""
    return [Batch(match.entry, match.env, rules, first, what) for first, what in batches_of(match, rules)]


def play_all(match: Match, rules: Rules, pool: Pool, watch: Callable[[Batch], None]) -> Evaluation:
    """Play a match and keep nothing.

    Raises:
        ValueError: As :func:`play_missing`.
    """
    found = {}
    for played in pool.imap_unordered(play, all_batches(match, rules)):
        found[played.batch.first] = played.evaluation
        watch(played.batch)
    return joined([found[first] for first in sorted(found)])


def play(batch: Batch) -> Played:
    """Play a batch, in a worker.

    Raises:
        ValueError: If this worker has other files or versions than who asked, or the contestant cannot play.
    """
    rules = batch.rules
    torch.set_num_threads(rules.threads)
    match = _entered(batch)
    here = dict(batches_of(match, rules))[batch.first]
    if here != batch.what:
        difference = next(_differences(here, batch.what))
        raise WrongValueError(
            f"{platform.node()} would play {batch} with other files or versions: {brief(difference)}; "
            "install the same versions on all machines, and let them see the same files"
        )
    return Played(batch, play_batch(match, rules, batch.first))


_last: list[tuple[Rules, Match]] = []
"""The last match of a worker process, because the next batch is often of the same."""


def _entered(batch: Batch) -> Match:
    asked = (batch.rules, batch.entry, batch.env)
    if not _last or (_last[0][0], _last[0][1].entry, _last[0][1].env) != asked:
        _last[:] = [(batch.rules, match_of(batch.entry, batch.env, batch.rules))]
    return _last[0][1]


def _differences(here: Mapping[str, Any], asked: Mapping[str, Any], inside: str = "") -> Iterator[str]:
    for key in sorted({*here, *asked}):
        ours, theirs = here.get(key), asked.get(key)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            yield from _differences(ours, theirs, f"{inside}{key}.")
        elif ours != theirs:
            yield f"{inside}{key} is {ours!r}, and {theirs!r} was asked for"
