"""Collections of several environments: seeds by key, resuming, failures, full disks, other folders."""

import json
import re
import resource
import shutil
import textwrap
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.pool import ThreadPool

import h5py
import minari
import numpy as np
import pytest

from tdm_agents.actors.behaviour import RandomPolicy
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.episode import play
from tdm_agents.collection.names import MAX_NAME
from tdm_agents.collection.workers import MAX_ATTEMPTS, EpisodeDone
from tdm_agents.data.index import data_sets, read_index
from tdm_agents.data.minari_io import DataError, content_hash, describe, read_episodes
from tdm_agents.environments import EnvRef
from tdm_agents.storage import FolderInUseError, locked

MIX = ((RandomPolicy(), 2), (RandomPolicy("bold", min_scale=2.0), 1))
PENDULUM = DatasetSpec(name="pendulum", env=EnvRef("Pendulum-v1"), mix=MIX, max_steps=6)
TREE = DatasetSpec(
    name="tree",
    env=EnvRef("tdm/WalkerTree-v0", {"dof": 5, "body": 3}),
    mix=MIX,
    max_steps=6,
    action_repeat=2,
)
BOTH = [PENDULUM, TREE]

# a double integrator of which every second episode breaks in its third step, in one way or another
FRAGILE = """
    import gymnasium as gym
    import numpy as np

    class Fragile(gym.Env):
        observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
        action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

        def __init__(self, how, always=False):
            self.how, self.always, self.broken = how, always, False

        def reset(self, *, seed=None, options=None):
            assert not self.broken, "a broken environment was used again"
            self.steps, self.fails = 0, self.always or seed % 2 == 0
            return np.zeros(1, np.float32), {}

        def step(self, action):
            self.steps += 1
            self.broken = self.fails and self.steps == 3
            if self.broken and self.how == "raises":
                raise RuntimeError("physics diverged")
            observes = np.nan if self.broken and self.how == "observes" else self.steps
            rewards = np.inf if self.broken and self.how == "rewards" else 1.0
            return np.full(1, observes, np.float32), rewards, False, False, {}

    gym.register("Fragile-v0", "fragile_env:Fragile")
"""


@pytest.fixture
def pool():
    """Plays in this process, through the interface of ``multiprocessing.Pool``."""
    with ThreadPool(1) as threads:
        yield threads


@pytest.fixture
def fragile(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("fragile")
    (folder / "fragile_env.py").write_text(textwrap.dedent(FRAGILE))
    monkeypatch.syspath_prepend(folder)
    return DatasetSpec(
        name="fragile", env=EnvRef.of("fragile_env:Fragile-v0"), mix=((RandomPolicy(), 6),), max_steps=5
    )


def arrays(path):
    episodes = read_episodes(describe(path))
    return [(e.observation.tobytes(), e.action.tobytes(), e.reward.tobytes()) for e in episodes]


def test_each_environment_becomes_a_data_set_and_an_index_names_them(tmp_path, pool):
    out = collect(BOTH, tmp_path / "out", pool=pool)
    assert out == tmp_path / "out"
    entries = read_index(out)
    assert [(e.path, e.env.id, e.episodes, e.transitions) for e in entries] == [
        ("pendulum/data", "Pendulum-v1", 3, 18),
        ("tree/data", "tdm/WalkerTree-v0", 3, 18),
    ]
    assert entries[1].env.kwargs == {"dof": 5, "body": 3}
    for dataset, entry, path in zip(BOTH, entries, data_sets(out), strict=True):
        assert entry.sha256 == content_hash(path)
        assert entry.bytes == sum(file.stat().st_size for file in path.iterdir())
        env = dataset.make_env()
        alone = [play(env, dataset, policy, i) for policy, n in dataset.mix for i in range(n)]
        assert arrays(path) == [
            (e.observation.tobytes(), e.action.tobytes(), e.reward.tobytes()) for e in alone
        ]
    assert not list(out.glob("*/.episodes"))


def test_environments_do_not_share_their_noise(tmp_path):
    policy = RandomPolicy()
    draws = []
    for name in ("", "a", "b"):
        dataset = replace(PENDULUM, name=name)
        episode = play(dataset.make_env(), dataset, policy, 0)
        draws.append((episode.seed, episode.metadata["scale"]))
    assert len(set(draws)) == 3


def test_columns_are_float32_and_compressed_and_minari_reads_them(tmp_path, pool):
    dataset = DatasetSpec(
        env=EnvRef("dm_control/cartpole-swingup-v0"),
        mix=((RandomPolicy(max_correlation=0.0), 1),),
        max_steps=300,
    )
    data = collect(dataset, tmp_path / "cartpole", pool=pool)
    with h5py.File(data / "main_data.hdf5") as file:
        episode = file["episode_0"]
        leaves = [episode["actions"], episode["rewards"], *episode["observations"].values()]
        assert all(leaf.dtype == np.float32 and leaf.compression == "gzip" for leaf in leaves)
    (read,) = minari.MinariDataset(data)
    assert read.actions.shape == (300, 1) and read.truncations[-1]
    (about,) = minari.MinariDataset(data).storage.get_episode_metadata([0])
    assert about["policy"] == "random" and about["index"] == 0


def test_an_interrupted_collection_goes_on(tmp_path, pool):
    whole = collect(BOTH, tmp_path / "whole", pool=pool)

    told: list[EpisodeDone] = []

    def stop(done):
        told.append(done)
        if len(told) == 2:
            raise KeyboardInterrupt

    def again(until=lambda: None):
        told.clear()
        out = collect(BOTH, tmp_path / "out", pool=pool, watch=told.append)
        return [done.played for done in told], out

    with pytest.raises(KeyboardInterrupt):
        collect(BOTH, tmp_path / "out", pool=pool, watch=stop)
    assert not (tmp_path / "out" / "index.json").exists()
    played, out = again()
    assert sorted(played) == [False] * (6 - sum(played)) + [True] * sum(played) and 1 <= sum(played) <= 4
    assert [arrays(path) for path in data_sets(out)] == [arrays(path) for path in data_sets(whole)]

    (out / "index.json").unlink()  # as if killed just before it was written
    assert again() == ([], out)
    assert len(read_index(out)) == 2

    shutil.rmtree(out / "tree" / "data")  # as if killed between the two data sets
    (out / "pendulum" / ".episodes").mkdir()
    (out / "tree" / ".data.partial").mkdir()
    assert again()[0] == [True] * 3
    assert sorted(path.name for path in (out / "tree").iterdir()) == ["data"]
    assert [arrays(path) for path in data_sets(out)] == [arrays(path) for path in data_sets(whole)]


def test_environments_may_be_added_later_but_not_taken_away(tmp_path, pool):
    out = collect([PENDULUM], tmp_path / "out", pool=pool)
    before = content_hash(out / "pendulum/data")
    assert collect(BOTH, out, pool=pool) == out
    assert read_index(out)[0].sha256 == before
    with pytest.raises(DataError, match="holds 'tree' which is not of this collection"):
        collect([PENDULUM], out, pool=pool)
    with pytest.raises(DataError, match=r"tree.*collected with action_repeat 2, now 1"):
        collect([PENDULUM, replace(TREE, action_repeat=1)], out, pool=pool)
    with pytest.raises(DataError, match=r"tree.*collected with env_kwargs\.body 3, now 4"):
        collect(
            [PENDULUM, replace(TREE, env=replace(TREE.env, kwargs={"dof": 5, "body": 4}))], out, pool=pool
        )


@pytest.mark.parametrize("how", ["raises", "observes", "rewards"])
def test_a_failed_episode_is_replaced_and_told(how, fragile, tmp_path, pool):
    dataset = replace(fragile, env=replace(fragile.env, kwargs={"how": how}))
    told: dict[int, EpisodeDone] = {}
    out = collect([dataset], tmp_path / "out", pool=pool, watch=lambda done: told.update({done.index: done}))
    assert sorted(told) == list(range(6))
    replaced = [index for index, done in told.items() if done.failures]
    assert replaced and len(replaced) < 6, "this seed shows nothing"
    assert all("step 2" in told[index].failures[0] for index in replaced)
    data = minari.MinariDataset(out / "fragile/data")
    for index, about in enumerate(data.storage.get_episode_metadata(range(6))):
        assert tuple(json.loads(about.get("failures", "[]"))) == told[index].failures
        assert about["seed"] % 2 == 1
    assert all(len(episode.rewards) == 5 for episode in data)


def test_an_environment_that_always_fails_stops_the_collection_and_is_named(fragile, tmp_path, pool):
    broken = replace(fragile, env=replace(fragile.env, kwargs={"how": "raises", "always": True}))
    with pytest.raises(DataError) as caught:
        collect([PENDULUM, broken], tmp_path / "out", pool=pool)
    told = str(caught.value)
    assert "of 'random' in fragile" in told and f"failed {MAX_ATTEMPTS} times" in told
    assert re.search(r"step 2 after reset\(seed=\d+\): RuntimeError: physics diverged", told)


@contextmanager
def files_of_at_most(size):
    """A disk that is full beyond ``size`` bytes a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("what", ["episode", "data set"])
def test_a_full_disk_loses_nothing(what, tmp_path, pool, monkeypatch):
    datasets = [replace(PENDULUM, max_steps=2), replace(TREE, max_steps=600)]
    out = collect(datasets[:1], tmp_path / "out", pool=pool)
    with (
        monkeypatch.context() as patch,
        pytest.raises(DataError, match=rf"{what}.*cannot be written.*make room"),
    ):
        if what == "data set":
            usage = shutil.disk_usage(out)
            patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
            collect(datasets, out, pool=pool)
        else:
            # room for the small data set by which spaces are tried, but not for an episode
            with files_of_at_most(50_000):
                collect(datasets, out)
    kept = list(out.rglob("*.safetensors"))
    assert len(kept) == (3 if what == "data set" else 0) and (out / "pendulum/data").exists()
    assert not list(out.rglob("*.partial")), "a half-written file takes room"
    told: list[EpisodeDone] = []
    again = collect(datasets, out, pool=pool, watch=told.append)
    assert sorted(done.played for done in told) == [False] * len(kept) + [True] * (3 - len(kept))
    whole = collect(datasets, tmp_path / "whole", pool=pool)
    assert [arrays(path) for path in data_sets(again)] == [arrays(path) for path in data_sets(whole)]


def test_a_damaged_episode_is_named(tmp_path, pool):
    with pytest.raises(KeyboardInterrupt):
        collect(
            BOTH, tmp_path / "out", pool=pool, watch=lambda done: (_ for _ in ()).throw(KeyboardInterrupt)
        )
    shard = next((tmp_path / "out").rglob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:200])
    with pytest.raises(DataError, match=rf"{shard.name} is damaged.*remove it"):
        collect(BOTH, tmp_path / "out", pool=pool)


def test_an_episode_that_is_removed_meanwhile_is_named_and_played_again(tmp_path, pool):
    def remove(done):
        (tmp_path / "out/pendulum/.episodes" / f"{done.policy}-{done.index:06d}.safetensors").unlink()

    with pytest.raises(DataError, match=r"safetensors was removed; run the same"):
        collect([PENDULUM], tmp_path / "out", pool=pool, watch=remove)
    collect([PENDULUM], tmp_path / "out", pool=pool)
    assert len(list(read_episodes(describe(tmp_path / "out/pendulum/data")))) == 3


def test_a_folder_on_a_full_disk_is_named(tmp_path, pool):
    with files_of_at_most(10), pytest.raises(OSError, match=r"File too large: .*settings\.json"):
        collect([PENDULUM], tmp_path / "out", pool=pool)


def test_an_episode_keeps_what_its_reset_said(tmp_path, pool):
    kwargs = {"domain": "cartpole", "task": "balance", "variant": "redraw"}
    dataset = DatasetSpec(
        name="a", env=EnvRef("tdm/Suite-v0", kwargs), mix=((RandomPolicy(), 2),), max_steps=2
    )
    (path,) = data_sets(collect([dataset], tmp_path / "out", pool=pool))
    env = dataset.make_env()
    variants = set()
    for episode in minari.MinariDataset(path).iterate_episodes():
        about = next(iter(minari.MinariDataset(path).storage.get_episode_metadata([episode.id])))
        told = json.loads(about["reset_info"])
        _, info = env.reset(seed=int(about["seed"]))
        assert told == json.loads(json.dumps(info)) and told["factors"]
        variants.add(told["variant"])
    assert len(variants) == 2


def test_two_collections_do_not_meet_in_a_folder(tmp_path, pool):
    with locked(tmp_path / "out"), pytest.raises(FolderInUseError, match="another process writes to"):
        collect(BOTH, tmp_path / "out", pool=pool)
    collect(BOTH, tmp_path / "out", pool=pool)


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ([PENDULUM, PENDULUM], "two environments are called 'pendulum'"),
        ([PENDULUM, replace(TREE, name="")], "needs a name for each"),
        ([], "no environments"),
    ],
)
def test_portions_that_would_share_a_folder_are_refused(datasets, message, tmp_path, pool):
    with pytest.raises(ValueError, match=message):
        collect(datasets, tmp_path / "out", pool=pool)


@pytest.mark.parametrize("name", ["..", "../up", "a/b", ".hidden", "a b", "a\n", "index.json", "a" * 201])
def test_names_are_those_of_files_inside_the_collection(name):
    with pytest.raises(ValueError, match="name is"):
        replace(TREE, name=name)
    with pytest.raises(ValueError, match="tree: name of a policy is"):
        replace(TREE, mix=((RandomPolicy(name), 1),))


def test_the_longest_name_still_fits(tmp_path, pool):
    longest = "a" * MAX_NAME
    dataset = replace(PENDULUM, name=longest, mix=((RandomPolicy(longest), 1),))
    assert data_sets(collect([dataset], tmp_path / "out", pool=pool)) == [tmp_path / "out" / longest / "data"]
