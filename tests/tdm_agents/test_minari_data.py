"""Data sets that Minari itself wrote, as others publish them: read, refused and trained on."""

from __future__ import annotations

import dataclasses
import io
import json
import sys

import gymnasium as gym
import minari
import numpy as np
import pytest
import torch
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from rich.console import Console

import tdm_envs  # noqa: F401  (registers dm_control's suite)
from tdm_agents.agent import TDMAgent
from tdm_agents.cli import train as command
from tdm_agents.data.index import IndexEntry, write_index
from tdm_agents.data.minari_io import DataError, content_hash, describe, locate, read_episodes
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import Place
from tdm_agents.evaluation.contestants import enter
from tdm_agents.evaluation.entries import parse_entry
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.spaces import ObservationCodec
from tdm_agents.training.train_config import TrainConfig

DICT, TERMINATING, DISCRETE = "dm_control/cartpole-swingup-v0", "InvertedDoublePendulum-v5", "CartPole-v1"
EPISODES, MOST_STEPS = 8, 25

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")  # that data sets should say more


def play(env, seed):
    """A random episode as Minari's collector keeps it, cut off after ``MOST_STEPS``."""
    env.action_space.seed(seed)
    observation, _ = env.reset(seed=seed)
    observations, actions, rewards, ends = [observation], [], [], []
    while not ends or not (ends[-1] or len(ends) == MOST_STEPS):
        actions.append(env.action_space.sample())
        observation, reward, terminated, _, _ = env.step(actions[-1])
        observations.append(observation)
        rewards.append(float(reward))
        ends.append(terminated)
    if isinstance(env.observation_space, spaces.Dict):
        stacked = {key: np.stack([o[key] for o in observations]) for key in env.observation_space}
    else:
        stacked = np.stack(observations)
    cut = [False] * (len(ends) - 1) + [not ends[-1]]
    return EpisodeBuffer(
        seed=seed,
        observations=stacked,
        actions=np.stack(actions),
        rewards=rewards,
        terminations=ends,
        truncations=cut,
    )


@pytest.fixture(scope="module")
def recorded():
    """Episodes of each environment, and its spaces and spec."""
    found = {}
    for env_id in (DICT, TERMINATING, DISCRETE):
        env = gym.make(env_id)
        found[env_id] = env, [play(env, seed) for seed in range(EPISODES)]
    yield found
    for env, _ in found.values():
        env.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Minari's own root, where its data sets go and are looked for."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("minari")
        patch.setenv("MINARI_DATASETS_PATH", str(folder))
        yield folder


def publish(name, env, episodes, data_format="hdf5"):
    """Write a data set with Minari; its id. Its episodes are as they were played."""
    spec = env.spec.id if env.spec is not None and env.spec.id != DICT else None
    minari.create_dataset_from_buffers(
        name,
        list(episodes),
        env=spec,
        observation_space=env.observation_space,
        action_space=env.action_space,
        data_format=data_format,
    )
    return name


@pytest.fixture(scope="module")
def published(root, recorded):
    """Ids of data sets by environment and format; dm_control's has no spec that JSON could hold."""
    return {
        (env_id, data_format): publish(
            f"test/{env_id.rsplit('/')[-1].lower().removesuffix('-v0')}/{data_format}-v0",
            env,
            episodes,
            data_format,
        )
        for env_id, (env, episodes) in recorded.items()
        for data_format in ("hdf5", "arrow")
    }


FORMATS = pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
ENVIRONMENTS = pytest.mark.parametrize("env_id", [DICT, TERMINATING, DISCRETE])


@FORMATS
@ENVIRONMENTS
def test_every_step_arrives_as_it_was_played(published, recorded, env_id, data_format):
    env, played = recorded[env_id]
    got = Trajectories.from_minari(published[env_id, data_format])
    assert got.num_episodes == EPISODES
    assert got.info.env_id == ("" if env_id == DICT else env_id)
    codec = ObservationCodec(env.observation_space)
    for index, buffer in enumerate(played):
        steps = got.episode(index)
        count = len(buffer.rewards)
        np.testing.assert_array_equal(steps.observation, codec.flatten_batch(buffer.observations, count + 1))
        np.testing.assert_array_equal(steps.reward[1:], np.asarray(buffer.rewards, np.float32))
        np.testing.assert_allclose(steps.action[:-1], np.reshape(buffer.actions, (count, -1)), rtol=1e-6)
        assert steps.alive[:-1].all()
        assert steps.alive[-1] == (not buffer.terminations[-1])
    assert got.terminates == any(buffer.terminations[-1] for buffer in played)


def test_discrete_actions_are_whole_numbers_counted_from_zero(root):
    class Shell(gym.Env):
        observation_space = spaces.Box(-9, 9, (1,))
        action_space = spaces.MultiDiscrete([3, 4], start=[1, -2])

    actions = np.array([[1, -2], [3, 1], [2, 0]])
    episode = EpisodeBuffer(
        observations=np.zeros((4, 1), np.float32),
        actions=actions,
        rewards=[0.0] * 3,
        terminations=[False] * 3,
        truncations=[False, False, True],
    )
    for data_format in ("hdf5", "arrow"):
        publish(f"test/{data_format}-v0", Shell(), [episode], data_format)
        got = Trajectories.from_minari(f"test/{data_format}-v0")
        assert got.episode(0).action.dtype == np.int64
        np.testing.assert_array_equal(got.episode(0).action[:-1], actions - [1, -2])
        window = got.windows(np.array([0]), np.array([0]), steps=6)
        assert window.action.dtype == torch.int64
        assert window.action[0, 3:].eq(0).all()


def test_an_action_that_is_none_of_the_choices_is_refused_with_its_episode(root, recorded):
    env, played = recorded[DISCRETE]
    wrong = np.array(played[1].actions)
    wrong[2] = 7
    publish("test/wrong-v0", env, [played[0], dataclasses.replace(played[1], actions=wrong)])
    with pytest.raises(DataError, match=r"episode 1 of .*7.* none of the choices of Discrete\(2\)"):
        Trajectories.from_minari("test/wrong-v0")


def test_an_action_that_is_not_finite_is_refused(root, recorded):
    env, played = recorded[TERMINATING]
    wrong = np.array(played[0].actions)
    wrong[1] = np.nan
    publish("test/nan-v0", env, [dataclasses.replace(played[0], actions=wrong)])
    with pytest.raises(DataError, match=r"episode 0 .* infinite action at step 1"):
        Trajectories.from_minari("test/nan-v0")


@ENVIRONMENTS
def test_actions_that_change_inside_a_decision_are_refused_with_a_count(published, env_id):
    with pytest.raises(
        DataError, match=r"so do \d+ decisions in \d of 8 episodes.*action_repeat=1 \(--action-repeat 1\)"
    ):
        Trajectories.from_minari(published[env_id, "arrow"], action_repeat=4)


def test_an_arrow_episode_that_minari_splits_is_refused(root):
    class Shell(gym.Env):
        observation_space = spaces.Box(-9, 9, (1,))
        action_space = spaces.Discrete(2)

    count = 131_073  # one more than Minari reads at once
    episode = EpisodeBuffer(
        observations=np.zeros((count + 1, 1), np.float32),
        actions=np.zeros(count, np.int64),
        rewards=np.zeros(count),
        terminations=np.zeros(count, bool),
        truncations=np.arange(count) == count - 1,
    )
    publish("test/long-v0", Shell(), [episode], "arrow")
    with pytest.raises(DataError, match=r"has 131073 steps by its metadata, but \d+ could be read"):
        list(read_episodes(describe(locate("test/long-v0"))))


def test_a_format_that_cannot_be_read_here_is_named_with_the_remedy(published, monkeypatch):
    path = locate(published[DISCRETE, "arrow"])
    monkeypatch.delitem(sys.modules, "minari.dataset._storages.arrow_storage")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"stored as 'arrow'.*pip install 'tdm-agents\[arrow\]'"):
        describe(path)
    metadata = path / "metadata.json"
    text = metadata.read_text()
    metadata.write_text(json.dumps(json.loads(text) | {"data_format": "zarr"}))
    with pytest.raises(DataError, match=r"stored as 'zarr'.*newer minari"):
        describe(path)
    metadata.write_text(text)


def index_of(root, published, *keys):
    """An index in Minari's root of some of its data sets."""
    paths = [locate(published[key]).relative_to(root).as_posix() for key in keys]
    entries = [
        IndexEntry(path, key[0], {}, EPISODES, 1, 1, content_hash(root / path))
        for path, key in zip(paths, keys, strict=True)
    ]
    write_index(root, entries)


def test_an_index_stands_for_its_data_sets(published, root):
    index_of(root, published, (DISCRETE, "hdf5"), (DISCRETE, "arrow"))
    both = Trajectories.from_minari(root)
    assert (both.num_episodes, len(both.parts)) == (2 * EPISODES, 2)


QUICK = TrainConfig(
    steps=3,
    batch_size=4,
    window_steps=4,
    warmup_steps=1,
    evaluate_batches=1,
    horizons=(1, 2),
    starts=4,
    context_steps=2,
)


@pytest.mark.parametrize(
    ("env_id", "data_format"), [(DICT, "arrow"), (TERMINATING, "hdf5"), (DISCRETE, "arrow")]
)
@pytest.mark.parametrize("kind", ["transformer", "mlp"])
def test_a_model_of_it_is_trained_and_plans(published, recorded, tmp_path, kind, env_id, data_format):
    result = command.run(
        command.Train(
            data=(published[env_id, data_format],),
            out=tmp_path / "run",
            model=kind,
            action_repeat=1,
            held_out_fraction=0.25,
            planner="random_shooting",
            training=QUICK,
        ),
        console=Console(file=io.StringIO()),
    )
    assert np.isfinite(list(result.metrics.values())).all()
    assert ("held_out/nll_alive" in result.metrics or "held_out/alive" in result.metrics) == (env_id != DICT)
    agent = TDMAgent.load(tmp_path / "run", horizon=2, num_samples=4)
    assert agent.model.spec.terminates == (env_id != DICT)
    env, _ = recorded[env_id]
    observation, _ = env.reset(seed=0)
    agent.reset()
    assert env.action_space.contains(agent.act(observation))


def test_one_transformer_is_trained_on_all_that_an_index_names(published, root, recorded, tmp_path):
    index_of(root, published, (DICT, "hdf5"), (TERMINATING, "arrow"), (DISCRETE, "hdf5"))
    result = command.run(
        command.Train(
            data=(root,),
            out=tmp_path / "run",
            preset="small-paper-tokens",
            action_repeat=1,
            held_out_fraction=0.25,
            training=QUICK,
        ),
        console=Console(file=io.StringIO()),
    )
    names = ("unnamed", TERMINATING, DISCRETE)
    assert all(np.isfinite(result.metrics[f"held_out/loss/{name}"]) for name in names)
    for name, env_id in zip(names, (DICT, TERMINATING, DISCRETE), strict=True):
        agent = TDMAgent.load(tmp_path / "run", env_id=name, horizon=2, num_samples=4)
        env, _ = recorded[env_id]
        observation, _ = env.reset(seed=0)
        agent.reset()
        assert env.action_space.contains(agent.act(observation))
    entry = parse_entry(f"{tmp_path / 'run'} horizon=2 num_samples=4")
    played = evaluate(enter(entry, Place(DISCRETE)).contestant, Place(DISCRETE), [0], max_steps=3)
    assert len(played.scores) == 1
