"""Collections that any actor plays: checkpoints, SB3 policies, planners, random; discrete actions too."""

import json
from multiprocessing.pool import ThreadPool
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3

from tdm_agents.actors.behaviour import PlannerPolicy, RandomPolicy
from tdm_agents.actors.tuned import expert
from tdm_agents.cli.collect import Collect, datasets_of
from tdm_agents.cli.main import main
from tdm_agents.collection import entry_policy
from tdm_agents.collection.actor_lines import parse_actor
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.collection_manifest import read_manifest
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.entry_policy import ActorPolicy
from tdm_agents.collection.episode import play
from tdm_agents.data.minari_io import DataError, describe, episode_metadata, read_episodes
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import EnvRef

SWINGUP = EnvRef("dm_control/cartpole-swingup-v0")
CARTPOLE, PENDULUM = EnvRef("CartPole-v1"), EnvRef("Pendulum-v1")
SHIPPED = "cartpole-swingup horizon=2 num_samples=4"
MULTI = """
    import gymnasium as gym
    import numpy as np

    class Switches(gym.Env):
        observation_space = gym.spaces.Box(0.0, 9.0, (2,), np.float32)
        action_space = gym.spaces.MultiDiscrete([3, 4])

        def reset(self, *, seed=None, options=None):
            return np.zeros(2, np.float32), {}

        def step(self, action):
            assert self.action_space.contains(action), action
            return np.asarray(action, np.float32), 1.0, False, False, {}

    gym.register("Switches-v0", Switches)
"""


@pytest.fixture(scope="module")
def zips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zips")
    for name, env in {"ppo": CARTPOLE, "sac": PENDULUM}.items():
        model = getattr(sb3, name.upper())(
            "MlpPolicy", gym.make(env.id), policy_kwargs={"net_arch": [8]}, seed=1
        )
        model.save(folder / f"{name}.zip")
    return folder


@pytest.fixture
def pool():
    with ThreadPool(1) as threads:
        yield threads


@pytest.fixture(autouse=True)
def _forget():
    entry_policy._entered.cache_clear()


def episodes_of(path):
    info = describe(path)
    return list(zip(read_episodes(info), episode_metadata(info), strict=True))


def test_the_same_settings_and_seed_give_the_episodes_that_they_always_gave():
    """What version 0.1.0 recorded: seeds, what was drawn, and random actions (they need no physics)."""
    random = RandomPolicy()
    planner = PlannerPolicy(settings={"horizon": 2, "num_samples": 4, "iterations": 1})
    dataset = DatasetSpec(env=SWINGUP, mix=((random, 3), (planner, 2)), action_repeat=4, seed=3, max_steps=20)
    env = dataset.make_env()
    played = [play(env, dataset, random, i) for i in range(3)]
    assert [episode.seed for episode in played] == [634616257, 330091127, 825108256]
    assert played[0].action[::4, 0] == pytest.approx(
        [-0.5006974339485168, 0.09099346399307251, 0.06922297179698944, -0.4170283377170563,
         0.11003458499908447], abs=1e-6,
    )  # fmt: skip
    planned = [play(env, dataset, planner, i) for i in range(2)]
    drawn = [(e.seed, e.metadata["noise_sd"], e.metadata["burst_rate"]) for e in planned]
    assert drawn == [(99526807, 0.6, 0.05), (2068357388, 0.0, 0.05)]


def test_every_kind_of_actor_plays_in_one_collection(tmp_path, pool):
    lines = [
        "random episodes=1",
        "expert episodes=1 label=tuned",
        "simulator planner=cem horizon=2 num_samples=4 num_elites=2 iterations=1 episodes=1",
        f"{SHIPPED} episodes=2 label=model",
    ]
    command = [word for line in lines for word in ("--actor", line)]
    assert main(["collect", *command, "--max-steps", "10", "--out", str(tmp_path / "out")]) == 0
    played = episodes_of(tmp_path / "out/data")
    assert [about["policy"] for _, about in played] == ["random", "tuned", "planner", "model", "model"]
    for episode, about in played:
        np.testing.assert_array_equal(episode.action[:4], episode.action[:1].repeat(4, axis=0))
        assert ("noise_sd" in about) == (about["policy"] != "random")
    assert Trajectories.from_minari(tmp_path / "out", action_repeat=4).num_decisions == 5 * 2
    # the same command goes on, and ends with the same data
    (dataset,) = datasets_of(Collect(out=tmp_path, actor=tuple(lines), max_steps=10))
    again = collect(dataset, tmp_path / "again", pool=pool)
    for (one, _), (other, _) in zip(played, episodes_of(again), strict=True):
        np.testing.assert_array_equal(one.action, other.action)
        np.testing.assert_array_equal(one.observation, other.observation)


def test_a_policy_of_sb3_collects_with_discrete_actions(tmp_path, zips, monkeypatch):
    monkeypatch.chdir(zips)
    out = str(tmp_path / "out")
    command = ["collect", "--env-id", "CartPole-v1", "--actor", "ppo.zip episodes=4 noise_sds=[0.5]"]
    command += ["--actor", "random episodes=2", "--max-steps", "8", "--seed", "2", "--out", out]
    assert main(command) == 0
    played = episodes_of(tmp_path / "out/data")
    assert all(episode.action.dtype == np.int64 for episode, _ in played)
    assert [about.get("random_choices") for _, about in played] == [0.5] * 4 + [None] * 2
    assert Trajectories.from_minari(tmp_path / "out").num_decisions > 6


def test_weights_that_changed_meanwhile_are_refused(tmp_path, zips, monkeypatch, pool):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sac.zip").write_bytes((zips / "sac.zip").read_bytes())
    line = parse_actor("sac.zip action_repeat=2 episodes=2", PENDULUM)
    dataset = DatasetSpec(
        env=PENDULUM, mix=((line.policy, line.episodes),), action_repeat=line.action_repeat, max_steps=4
    )
    with pytest.raises(KeyboardInterrupt):
        collect(dataset, "out", pool=pool, watch=lambda done: (_ for _ in ()).throw(KeyboardInterrupt))
    model = sb3.SAC("MlpPolicy", gym.make("Pendulum-v1"), policy_kwargs={"net_arch": [8]}, seed=2)
    model.save("sac.zip")
    entry_policy._entered.cache_clear()  # as in the process that the same command starts
    changed = parse_actor("sac.zip action_repeat=2 episodes=2", PENDULUM).policy
    with pytest.raises(DataError, match=r"policies\.sac\.settings\.sha256\.sac\.zip '.*', now '"):
        collect(
            DatasetSpec(env=PENDULUM, mix=((changed, 2),), action_repeat=2, max_steps=4), "out", pool=pool
        )
    env = dataset.make_env()
    with pytest.raises(ValueError, match="is not what the collection began with: its sha256 changed"):
        play(env, dataset, line.policy, 0)


def test_a_manifest_names_actors_too(tmp_path, zips, monkeypatch):
    monkeypatch.chdir(zips)
    written = {
        "schema": 1,
        "policies": {"teacher": {"kind": "ActorPolicy", "entry": "sac.zip", "noise_sds": [0.1]}},
        "environments": [{"env_id": "Pendulum-v1", "episodes": {"teacher": 3}}],
    }
    (tmp_path / "m.json").write_text(json.dumps(written))
    (dataset,) = read_manifest(tmp_path / "m.json")
    policy, count = dataset.mix[0]
    assert (policy.name, count, policy.noise_sds, policy.action_repeat) == ("teacher", 3, (0.1,), 1)
    assert set(policy.settings["sha256"]) == {"sac.zip"}
    written["environments"][0]["action_repeat"] = 4
    (tmp_path / "m.json").write_text(json.dumps(written))
    with pytest.raises(DataError, match="'teacher' holds its actions for 1 environment steps"):
        read_manifest(tmp_path / "m.json")


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1", "switches:Switches-v0"])
def test_where_nothing_can_be_planned_the_default_is_random(env_id, tmp_path, monkeypatch, capsys):
    (tmp_path / "switches.py").write_text("\n".join(line[4:] for line in MULTI.splitlines()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (dataset,) = datasets_of(Collect(out=tmp_path, env_id=env_id))
    assert dataset.counts == {"random": 200}
    command = ["collect", "--env-id", env_id, "--random-episodes", "2", "--max-steps", "9", "--out", "out"]
    assert main(command) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "Random episodes only" in line]
    assert len(told) == 1 and "has no MuJoCo physics that can be rolled out. --actor chooses" in told[0]
    assert len(episodes_of(Path("out/data"))) == 2
    # what was asked for is never left out
    assert main([*command[:-1], "other", "--planner-episodes", "1"]) == 2
    assert "no episodes of 'planner' can be played in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["CartPole-v1", "--random-episodes", "1", "--planner-episodes", "1"], "--planner-episodes 0"),
        (["Pendulum-v1", "--actor", "cartpole-swingup"], "leave out its --actor"),
        (["CartPole-v1", "--random-episodes", "1", "--planner-episodes", "0"], None),
    ],
)
def test_what_is_advised_was_not_given_already(words, remedy, tmp_path, capsys):
    command = ["collect", "--env-id", *words, "--max-steps", "5", "--out", str(tmp_path / "out")]
    assert main(command) == (0 if remedy is None else 2)
    said = capsys.readouterr().err
    assert (f"ask for none ({remedy})" in said) if remedy else not said


def test_where_something_can_be_planned_the_default_is_both():
    (dataset,) = datasets_of(Collect(out=Path("out")))
    assert dataset.counts == {"random": 200, "planner": 200} and dataset.action_repeat == 4


def test_a_line_says_who_plays_and_how_often():
    assert parse_actor("random max_correlation=0.5 episodes=7", CARTPOLE).policy == RandomPolicy(
        max_correlation=0.5
    )
    tuned = parse_actor("expert noise-sds=[0.2]", SWINGUP)
    assert (tuned.episodes, tuned.action_repeat) == (200, 4)
    assert tuned.policy.settings == expert("cartpole-swingup").make_policy().settings
    assert tuned.policy.noise_sds == (0.2,)
    planned = parse_actor("simulator planner=mppi horizon=3 burst_episodes=0 label=mine", SWINGUP)
    assert planned.policy == PlannerPolicy("mppi", {"horizon": 3}, burst_episodes=0, name="mine")
    like = parse_actor("simulator like=cartpole-swingup horizon=3", SWINGUP)
    assert isinstance(like.policy, ActorPolicy) and like.action_repeat == 4
    shipped = parse_actor(f"{SHIPPED} episodes=5", SWINGUP)
    assert (shipped.policy.name, shipped.episodes, shipped.action_repeat) == ("cartpole-swingup", 5, 4)
    assert set(shipped.policy.settings["sha256"]) == {"weights.safetensors", "model.json"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("random episodes=0", "episodes is 0; expected a whole number of at least 1"),
        ("random episodes=many", "episodes is 'many'; expected a whole number"),
        ("random noise_sds=[0.1]", "random has no setting 'noise_sds'"),
        ("random scale=3", "random has no setting 'scale'"),
        ("nobody", "no checkpoint named 'nobody'"),
        ("simulator planner=cme", "no planner named 'cme'"),
        ("simulator", "a simulator needs a planner"),
        ("expert", "no expert for 'Pendulum-v1'"),
        ("cartpole-swingup", "can be played in Pendulum-v1"),
        ("random label=a/b", "name of a policy is 'a/b'"),
        ("cartpole-swingup noise_sds=[-1.0]", "expected noise_sds of at least 0"),
        ("cartpole-swingup --episodes 3", "is not NAME=VALUE"),
    ],
)
def test_a_line_that_makes_no_sense_is_one_line_that_says_so(line, message, tmp_path, capsys):
    command = ["collect", "--env-id", "Pendulum-v1", "--actor", line, "--out", str(tmp_path / "out")]
    assert main(command) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and not said.out
    assert not (tmp_path / "out").exists()


def test_actors_with_other_time_steps_do_not_share_a_data_set(tmp_path, zips, monkeypatch, capsys):
    monkeypatch.chdir(zips)
    command = ["collect", "--env-id", "Pendulum-v1", "--actor", "sac.zip action_repeat=2"]
    command += ["--actor", "sac.zip action_repeat=3 label=other", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "'other' holds its actions for 3 environment steps, and action_repeat is 2" in (
        capsys.readouterr().err
    )
