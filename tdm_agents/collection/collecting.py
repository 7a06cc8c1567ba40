"""Collection of whole episodes in worker processes; nothing is lost or done twice, however often it stops.

Every episode is a function of its key (environment, policy, index) and the collection's seed, and is in a
file of its own as soon as it ends. Run again, a collection plays only the missing episodes. When all are
there, those of each environment become one Minari data set, and the files are removed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tdm_agents.collection.collection_check import SETTINGS_FILE, check, check_same, is_finished
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.pool import Pool, WorkerPool
from tdm_agents.collection.shard_store import ShardStore
from tdm_agents.collection.shards import read_shard, shard_path
from tdm_agents.collection.workers import EpisodeDone, Job, check_seen, found, one_thread, play_job
from tdm_agents.data.index import IndexEntry, write_index
from tdm_agents.data.minari_io import DataError, content_hash, write_dataset
from tdm_agents.data.readable import read_metadata
from tdm_agents.json_text import load_json, plain_number
from tdm_agents.storage import locked, write_json


def collect(
    datasets: DatasetSpec | Sequence[DatasetSpec],
    out: str | os.PathLike[str],
    *,
    workers: int = 1,
    pool: Pool | None = None,
    store: ShardStore | None = None,
    watch: Callable[[EpisodeDone], None] | None = None,
) -> Path:
    """Play episodes and write them as Minari data sets of raw environment steps, one per environment.

    A call that was interrupted, at any moment, goes on where it stopped when it is repeated, with the same
    result. Only the numbers of episodes and workers may change between calls. Memory does not grow with the
    number of episodes.

    Args:
        datasets: The data set to collect of each environment.
        out: Folder of the collection. A data set without a name becomes ``out/data``; others become
            ``out/NAME/data``, and at the very end ``out/index.json`` names them all.
        workers: Number of processes on this machine, one thread each; a dead one is warned of and replaced.
        pool: A pool that distributes the work instead: a :class:`~tdm_agents.collection.pool.WorkerPool`,
            ``multiprocessing``'s, or a :class:`~tdm_agents.collection.ray_pool.RayPool`, all of whose nodes
            see ``out`` too, or reach ``store``.
        store: Where workers that do not see ``out`` put finished episodes, from where this process fetches
            them; they are removed from there at the end.
        watch: Called in this process for every episode of an unfinished data set.

    Returns:
        The path for training: ``out/data``, or ``out`` with its index.

    Raises:
        DataError: If ``out`` holds a collection with other settings, or other files, an episode keeps
            failing, or a file cannot be written.
        FolderInUseError: If another process collects into ``out``.
        WorkerDiedError: If an episode keeps killing its workers.
        ValueError: If a setting makes no sense.
    """
    datasets = [datasets] if isinstance(datasets, DatasetSpec) else list(datasets)
    unfinished = check(datasets, out)
    out = Path(out)
    result = out if datasets[0].name else out / "data"
    if is_finished(datasets, out):
        return result
    with WorkerPool(workers, one_thread) as own, locked(out):
        for dataset in unfinished:
            settings = dataset.shards(out) / SETTINGS_FILE
            if not settings.exists():
                write_json(settings, dataset.settings())
        jobs = _Jobs(unfinished, out, store)
        if store is not None:
            _fetch_there(unfinished, out, store)
        hands = own if pool is None else pool
        _play_missing(jobs, hands, watch)
        # in workers too, because HDF5 may crash a process in which it finds the disk full
        for _ in (hands if store is None else own).imap_unordered(partial(_assemble, out=out), unfinished):
            pass
        for dataset in datasets:
            shutil.rmtree(dataset.shards(out), ignore_errors=True)
            if store is not None:
                store.below(dataset.name).remove({SETTINGS_FILE, *_names(dataset, out)})
        if datasets[0].name:
            write_index(out, [entry_of(dataset, out) for dataset in datasets])
    return result


def _fetch_there(datasets: Sequence[DatasetSpec], out: Path, store: ShardStore) -> None:
    """Fetch the episodes that workers of an interrupted collection put into the store.

    Raises:
        DataError: If the store holds episodes of another collection.
    """
    for dataset in datasets:
        shards, there = dataset.shards(out), store.below(dataset.name)
        names = there.names()
        if SETTINGS_FILE in names:
            there.fetch(SETTINGS_FILE, shards / f"{SETTINGS_FILE}.there")
            check_same(there.url, load_json(shards / f"{SETTINGS_FILE}.there"), dataset.settings())
        else:
            there.put(shards / SETTINGS_FILE)
        for name in sorted(names & _names(dataset, out)):
            if not (shards / name).exists():
                there.fetch(name, shards / name)


def _names(dataset: DatasetSpec, out: Path) -> set[str]:
    """Names of the files of all its episodes."""
    jobs = _Jobs([dataset], out)
    return {jobs[number].path.name for number in range(len(jobs))}


def _play_missing(jobs: _Jobs, pool: Pool, watch: Callable[[EpisodeDone], None] | None) -> None:
    missing = jobs.missing(watch)
    # in a fixed random order, so that the estimate of the time left is right although planners take longer
    np.random.default_rng(0).shuffle(missing)
    for done in pool.imap_unordered(play_job, map(jobs.__getitem__, missing)):
        jobs.fetch(done)
        if watch is not None:
            watch(done)


_BYTES_PER_EPISODE = 50_000
"""Bytes that HDF5 adds to the numbers; measured: 23,000 uncompressed and 9,000 compressed."""


class _Jobs:
    """All episodes by number, made on demand: a list would grow with their number."""

    def __init__(self, datasets: Sequence[DatasetSpec], out: Path, store: ShardStore | None = None) -> None:
        self._shards = {dataset.name: dataset.shards(out) for dataset in datasets}
        self._store = store
        self._rows = [
            (dataset, policy, dataset.shards(out)) for dataset in datasets for policy, _ in dataset.mix
        ]
        counts = [count for dataset in datasets for _, count in dataset.mix]
        self._ends = np.cumsum(counts, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, number: int) -> Job:
        row = int(np.searchsorted(self._ends, number, side="right"))
        dataset, policy, shards = self._rows[row]
        first = int(self._ends[row - 1]) if row else 0
        store = None if self._store is None else self._store.below(dataset.name)
        return Job(dataset, policy, int(number) - first, shards, store)

    def fetch(self, done: EpisodeDone) -> None:
        """Fetch an episode that a worker has put into the store, where there is one."""
        if self._store is not None:
            path = shard_path(self._shards[done.environment], done.policy, done.index)
            self._store.below(done.environment).fetch(path.name, path)

    def missing(self, watch: Callable[[EpisodeDone], None] | None) -> npt.NDArray[np.int64]:
        """Numbers of the episodes that have no file; ``watch`` is called for the others."""
        lost = np.ones(len(self), bool)
        for number in range(len(self)):
            job = self[number]
            if job.path.exists():
                lost[number] = False
                if watch is not None:
                    watch(found(job, played=False))
        return np.flatnonzero(lost)


def _assemble(dataset: DatasetSpec, out: Path) -> None:
    """Make a data set from its shards, unless it was made already."""
    if dataset.data(out).exists():  # by a worker that died just after it
        return
    check_seen(dataset.shards(out))
    jobs = _Jobs([dataset], out)
    _check_room(dataset.shards(out), len(jobs))
    env = dataset.make_env()
    try:
        write_dataset(
            dataset.folder(out),
            env,
            (read_shard(job.path) for job in map(jobs.__getitem__, range(len(jobs)))),
            description=f"{dataset.env}: "
            + ", ".join(f"{count} episodes of {name}" for name, count in dataset.counts.items())
            + f"; actions held for {dataset.action_repeat} environment steps.",
            metadata={
                "env_id": dataset.env.made_by,
                "collection": json.dumps(
                    {"settings": dataset.settings(), "episodes": dataset.counts},
                    sort_keys=True,
                    default=plain_number,
                ),
            },
        )
    finally:
        env.close()


def _check_room(shards: Path, episodes: int) -> None:
    """Refuse to make a data set where the disk has no room for it, since HDF5 crashes on a full disk."""
    size = sum(file.stat().st_size for file in shards.iterdir())
    needed = 2 * size + episodes * _BYTES_PER_EPISODE  # as Minari writes it, and compressed beside that
    free = shutil.disk_usage(shards).free
    if free < needed:
        raise DataError(
            f"the data set {shards.parent / 'data'} cannot be written: it needs {needed / 1e6:.1f} MB for a "
            f"while, and {free / 1e6:.1f} MB are free. Its episodes are kept: make room, then run the same "
            "command again"
        )


def entry_of(dataset: DatasetSpec, out: Path) -> IndexEntry:
    """The index's entry of a data set that is there."""
    data = dataset.data(out)
    about = read_metadata(data)
    return IndexEntry(
        path=data.relative_to(out).as_posix(),
        env=dataset.env,
        episodes=about["total_episodes"],
        transitions=about["total_steps"],
        bytes=sum(file.stat().st_size for file in data.iterdir()),
        sha256=content_hash(data),
    )
