"""The pool on a Ray cluster of two nodes on this machine, one of which is killed in the last test."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from itertools import count, islice

import numpy as np
import pytest

pytest.importorskip("ray", reason="the extra `ray` is not installed")

import ray
from ray_tasks import die, die_once, done_unless_on, double, fail, surroundings

from ray_pool import kill_second, two_nodes
from tdm_agents.actors.behaviour import RandomPolicy
from tdm_agents.cli.main import main
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.pool import WorkerDeath, WorkerDiedError
from tdm_agents.collection.ray_pool import RayPool
from tdm_agents.collection.workers import one_thread
from tdm_agents.data.index import data_sets
from tdm_agents.data.minari_io import EPISODES_FOLDER, describe, read_episodes
from tdm_agents.environments import EnvRef

# a cluster needs a minute, and starts late or not at all on cores that others keep busy
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]


@pytest.fixture(scope="module")
def cluster():
    with two_nodes() as cluster:
        yield cluster


def test_tasks_are_done_once_each_and_drawn_as_they_are_needed(cluster):
    drawn = []

    def tasks():
        for number in count():
            drawn.append(number)
            yield number

    with RayPool(cluster.address) as pool:
        results = list(islice(pool.imap_unordered(double, tasks()), 20))
        assert len(drawn) <= 20 + 2 * 2
        assert len(set(results)) == 20 and set(results) <= {2 * number for number in drawn}
        assert sorted(pool.imap_unordered(double, range(9))) == [2 * n for n in range(9)]
        assert list(pool.imap_unordered(double, [])) == []
        assert set(pool.imap_unordered(surroundings, range(2))) == {("1", "disable", os.getcwd())}


def test_deaths_are_reported_and_errors_raised(cluster, tmp_path):
    deaths: list[WorkerDeath] = []
    with RayPool(cluster.address, on_death=deaths.append, max_deaths=2) as pool:
        assert sorted(pool.imap_unordered(die_once, [tmp_path / "a", tmp_path / "b"])) == ["a", "b"]
        assert sorted(death.task.name for death in deaths) == ["a", "b"]
        assert "its process was killed or crashed" in str(deaths[0])
        with pytest.raises(WorkerDiedError, match="2 workers ended while doing the last straw"):
            list(pool.imap_unordered(die, ["the last straw"]))
        with pytest.raises(ValueError, match="no such luck") as caught:
            list(pool.imap_unordered(fail, ["luck"]))
        assert "ray_tasks.py" in "".join(caught.value.__notes__)


def test_mistakes_are_refused(cluster, capsys):
    for wrong, text in [
        ({"workers": 0}, "workers is 0"),
        ({"cpus_per_worker": 0}, "0 CPUs"),
        ({"gpus_per_worker": 1.5}, "1.5 GPUs"),
    ]:
        with pytest.raises(ValueError, match=text):
            RayPool(cluster.address, **wrong)
    with RayPool(cluster.address, gpus_per_worker=2):
        assert "no node has room for a worker of 1 CPUs and 2 GPUs" in capsys.readouterr().err
    with RayPool(cluster.address) as pool, pytest.raises(ValueError, match="chunksize is 2"):
        next(pool.imap_unordered(double, [1], chunksize=2))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:here"])
def test_an_address_where_nobody_listens_is_refused_at_once(address, monkeypatch):
    pool = RayPool(address)
    monkeypatch.setattr(pool._ray, "is_initialized", lambda: False)  # the tests' own cluster does not count
    began = time.monotonic()
    with pytest.raises(ValueError, match=f"no Ray cluster can be used at {address}: .*ray start --head"):
        pool.__enter__()
    assert time.monotonic() - began < 10


def pendulums(episodes, steps):
    return [
        DatasetSpec(
            name=f"gravity-{gravity}",
            env=EnvRef("Pendulum-v1", {"g": float(gravity)}),
            mix=((RandomPolicy(), episodes),),
            max_steps=steps,
        )
        for gravity in (9, 10)
    ]


def assert_equal(one, other):
    paths = data_sets(one)
    assert [p.relative_to(one) for p in paths] == [p.relative_to(other) for p in data_sets(other)]
    for path in paths:
        pairs = zip(
            read_episodes(describe(path)),
            read_episodes(describe(other / path.relative_to(one))),
            strict=True,
        )
        for a, b in pairs:
            assert a.terminated == b.terminated and a.seed == b.seed
            for name in ("observation", "action", "reward"):
                np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_the_command_goes_on_after_ctrl_c_and_collects_what_the_local_pool_does(cluster, tmp_path):
    words = ["collect", "--env-id", "Pendulum-v1", "--actor", "random episodes=30", "--max-steps", "150"]
    on_ray = [*words, "--out", str(tmp_path / "ray"), "--pool", "ray", "--address", cluster.address]
    command = [sys.executable, "-m", "tdm_agents.cli.main", *on_ray]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    shards = tmp_path / "ray" / EPISODES_FOLDER
    while not list(shards.glob("*.safetensors")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 130 and "Traceback" not in said, said
    assert "of 30 episodes are kept" in said
    assert 0 < len(list(shards.glob("*.safetensors"))) < 30
    assert main(on_ray) == 0
    assert main([*words, "--out", str(tmp_path / "local")]) == 0
    assert_equal(tmp_path / "local" / "data", tmp_path / "ray" / "data")


def test_evaluate_plays_what_one_process_plays(cluster, tmp_path):
    words = ["evaluate", "--env-id", "Pendulum-v1", "--random", "--episodes", "4", "--batch", "1"]
    scores = []
    for name, more in {"here": [], "ray": ["--pool", "ray", "--address", cluster.address]}.items():
        assert main([*words, "--max-steps", "20", "--out", str(tmp_path / name), *more]) == 0
        scores.append([one["return"] for one in json.loads((tmp_path / name).read_text())["episodes"]])
    assert scores[0] == scores[1] and len(set(scores[0])) == 4


class Lingering:
    """A pool whose second node never ends its first episode."""

    def __init__(self, pool, node, begun):
        self.pool, self.node, self.begun = pool, node, begun

    def imap_unordered(self, func, iterable, chunksize=1):
        yield from self.pool.imap_unordered(partial(done_unless_on, self.node, self.begun, func), iterable)


def test_a_node_that_dies_loses_no_episode(cluster, tmp_path):
    datasets, deaths, played = pendulums(6, 20), [], []
    collect(datasets, tmp_path / "local")
    here = ray.get_runtime_context().get_node_id()
    (there,) = {node["NodeID"] for node in ray.nodes() if node["Alive"]} - {here}
    begun = tmp_path / "begun"

    def kill():
        while not begun.exists():
            time.sleep(0.05)
        kill_second(cluster)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with RayPool(cluster.address, initializer=one_thread, on_death=deaths.append) as pool:
        collect(datasets, tmp_path / "ray", pool=Lingering(pool, there, begun), watch=played.append)
    killer.join()
    assert len(played) == 12 and {done.played for done in played} == {True}
    assert any("its node died" in str(death) for death in deaths)
    assert_equal(tmp_path / "local", tmp_path / "ray")
