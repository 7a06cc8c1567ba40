"""Does a collection on Ray give what the local pool gives, also when a node dies, and what does it cost?

A local pool of two processes and a Ray cluster of two nodes with one core each, on this machine, collect the
same episodes of many walkers in turn. Then one of the nodes is killed in the middle. Every array of every
episode is compared. The overhead is that of handing out: the time per task that does nothing, and the time
per episode once all workers have begun; both as ratios within this run.

    python benchmarks/ray_pool.py
"""

from __future__ import annotations

import hashlib
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray
import tyro
from ray.cluster_utils import Cluster

from keep import result
from tdm_agents.actors.behaviour import RandomPolicy
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.collection_manifest import default_name
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.pool import Pool, WorkerDeath, WorkerPool
from tdm_agents.collection.ray_pool import RayPool
from tdm_agents.collection.workers import EpisodeDone, one_thread
from tdm_agents.data.index import data_sets
from tdm_agents.data.minari_io import describe, read_episodes
from tdm_agents.environments import EnvRef
from tdm_envs.walkers import FAMILIES, sample_bodies

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
# a dead node is missed after some seconds; by default it takes a quarter of a minute
HEALTH = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 5000,
    "health_check_failure_threshold": 3,
}


@dataclass(frozen=True)
class Settings:
    """Bodies, episodes and files."""

    out: Path = Path("benchmarks/results/ray_pool.json")
    """Where to write the result."""
    bodies: int = 50
    """Number of walkers."""
    episodes: int = 4
    """Random episodes per walker."""
    steps: int = 200
    """Environment steps per episode."""
    tasks: int = 1000
    """Tasks that do nothing."""
    repeats: int = 3
    """Collections by each pool, in turn."""
    kill_after: int = 60
    """Episodes after which a node is killed."""


@contextmanager
def two_nodes() -> Iterator[Cluster]:
    """A cluster of two nodes, each with one core, to which this process is connected."""
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "_system_config": HEALTH})
    try:
        # first, because a process of this machine may be connected through any node that runs here
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        cluster.second = cluster.add_node(**NODE)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def kill_second(cluster: Cluster) -> None:
    """Kill the processes of the second node, as a loss of power does."""
    cluster.remove_node(cluster.second, allow_graceful=False)


def walkers(settings: Settings) -> list[DatasetSpec]:
    """The collection: short random episodes of walkers of every family."""
    share = -(-settings.bodies // len(FAMILIES))
    keys = [key for family in FAMILIES for key in sample_bodies(family, share, "train", 0)]
    envs = [EnvRef(key.env_id, {"dof": key.dof, "body": key.body}) for key in keys[: settings.bodies]]
    return [
        DatasetSpec(
            name=default_name(env),
            env=env,
            mix=((RandomPolicy(), settings.episodes),),
            max_steps=settings.steps,
        )
        for env in envs
    ]


def collected(
    datasets: list[DatasetSpec], pool: Pool, after: Callable[[int], None] = lambda played: None
) -> tuple[dict[str, list[str]], float]:
    """Hashes of all episodes by data set, and seconds per episode once both workers have begun.

    Args:
        datasets: What to collect.
        pool: Who plays.
        after: Called after every episode with the number played.
    """
    moments: list[float] = []

    def watch(done: EpisodeDone) -> None:
        moments.append(time.perf_counter())
        after(len(moments))

    with tempfile.TemporaryDirectory() as folder:
        collect(datasets, folder, pool=pool, watch=watch)
        begun = len(moments) // 5
        return digest(Path(folder)), (moments[-1] - moments[begun]) / (len(moments) - 1 - begun)


def digest(out: Path) -> dict[str, list[str]]:
    """A hash of the arrays and the end of every episode, by data set."""
    found = {}
    for path in data_sets(out):
        hashes = []
        for episode in read_episodes(describe(path)):
            content = hashlib.sha256(str(episode.terminated).encode())
            for array in (episode.observation, episode.action, episode.reward):
                content.update(str((array.dtype, array.shape)).encode() + array.tobytes())
            hashes.append(content.hexdigest())
        found[path.relative_to(out).as_posix()] = hashes
    return found


def empty_tasks(pool: Pool, count: int) -> float:
    """Milliseconds per task that does nothing, when the workers are there."""
    list(pool.imap_unordered(abs, range(20)))
    began = time.perf_counter()
    list(pool.imap_unordered(abs, range(count)))
    return 1e3 * (time.perf_counter() - began) / count


def main(settings: Settings) -> None:
    """Collect in turn, compare, print and keep."""
    datasets = walkers(settings)
    seconds: dict[str, list[float]] = {"local": [], "ray": []}
    tasks: dict[str, list[float]] = {"local": [], "ray": []}
    digests: list[dict[str, list[str]]] = []
    deaths: list[WorkerDeath] = []
    with (
        two_nodes() as cluster,
        WorkerPool(2, one_thread) as local,
        RayPool(initializer=one_thread, on_death=deaths.append) as on_ray,
    ):
        pools: dict[str, Pool] = {"local": local, "ray": on_ray}
        for _ in range(settings.repeats):
            for name, pool in pools.items():
                tasks[name].append(empty_tasks(pool, settings.tasks))
                found, taken = collected(datasets, pool)
                digests.append(found)
                seconds[name].append(taken)
                print(f"{name}: {1e3 * taken:.1f} ms per episode, {tasks[name][-1]:.2f} ms per empty task")
        undisturbed = len(deaths)
        killer = threading.Thread(target=kill_second, args=(cluster,))

        def after(played: int) -> None:
            if played == settings.kill_after:
                killer.start()

        killed, _ = collected(datasets, on_ray, after)
        killer.join()
    assert undisturbed == 0
    episodes = [one for several in digests[0].values() for one in several]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result(
        settings.out,
        settings,
        episodes=len(episodes),
        distinct=len(set(episodes)),
        equal=all(one == digests[0] for one in digests),
        equal_with_a_node_killed=killed == digests[0],
        deaths=[str(death) for death in deaths],
        milliseconds_per_episode={
            name: {"median": 1e3 * medians[name], "all": [1e3 * one for one in values]}
            for name, values in seconds.items()
        },
        episode_ratio=medians["ray"] / medians["local"],
        empty_tasks={
            name: {"milliseconds": statistics.median(values), "all": values} for name, values in tasks.items()
        },
        load_average=list(os.getloadavg()),
        ray=ray.__version__,
    )


if __name__ == "__main__":
    main(tyro.cli(Settings))
