"""The controller of mazes: shortest paths, and goals that it reaches in the mazes of gymnasium-robotics."""

import gymnasium as gym
import numpy as np
import pytest
from safetensors.torch import save
from stable_baselines3 import PPO

from ant_policy import actor_of
from tdm_agents.actors.ant_policy import AntPolicy
from tdm_agents.actors.contestant import actor_of as actor_of_contestant
from tdm_agents.actors.enter import enter
from tdm_agents.actors.entries import parse_entry
from tdm_agents.actors.waypoints import WaypointController, distances, next_cell
from tdm_agents.cli.collect import Collect, run
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import EnvRef
from tdm_agents.evaluation.episodes import evaluate
from tdm_envs.ant_frame import towards

ROWS = ["#######", "#..#..#", "#.###.#", "#.....#", "#######", "#.....#", "#######"]
WALLS = tuple(tuple(cell == "#" for cell in row) for row in ROWS)
MEDIUM = "gymnasium_robotics:PointMaze_Medium-v3 continuing_task=False"


def walked(here, there):
    path = [here]
    while path[-1] != there:
        path.append(next_cell(WALLS, path[-1], there))
    return path


def test_paths_are_shortest_and_avoid_walls():
    path = walked((1, 2), (1, 4))  # the two are neighbours but for a wall
    assert path == [(1, 2), (1, 1), (2, 1), (3, 1), (3, 2), (3, 3), (3, 4), (3, 5), (2, 5), (1, 5), (1, 4)]
    assert len(path) - 1 == distances(WALLS, (1, 4))[1, 2] == distances(WALLS, (1, 2))[1, 4]
    assert next_cell(WALLS, (1, 4), (1, 4)) == (1, 4)


@pytest.mark.parametrize("here", [(5, 1), (0, 0)])
def test_a_goal_that_cannot_be_reached_is_refused(here):
    with pytest.raises(ValueError, match=r"no path leads from cell \(.*\) to cell \(1, 1\)"):
        next_cell(WALLS, here, (1, 1))


def test_what_is_no_maze_is_refused():
    env = gym.make("Pendulum-v1")
    with pytest.raises(ValueError, match="is no maze that a point or an ant moves through"):
        WaypointController()([env])
    env.close()


@pytest.fixture
def mazes():
    pytest.importorskip("gymnasium_robotics", reason='pip install "tdm-agents[mazes]"')


@pytest.mark.parametrize("name", ["UMaze", "Medium", "Large"])
def test_every_goal_is_reached(mazes, name):
    ref = EnvRef.parse(f"gymnasium_robotics:PointMaze_{name}-v3 continuing_task=False")
    found = evaluate(enter(parse_entry("waypoints"), ref).contestant, ref, seeds=range(20), seed=0)
    assert all(episode.score == 1.0 for episode in found.episodes)


def test_a_wanderer_goes_to_random_places_and_finds_goals_by_chance(mazes):
    ref = EnvRef.parse(MEDIUM)
    entered = enter(parse_entry("waypoints wander=true"), ref)
    assert dict(entered.settings) == {"policy": "waypoints", "wander": True}

    def path(seed):
        envs = [ref.make(), ref.make()]
        seen = [env.reset(seed=3)[0] for env in envs]
        actor, places = actor_of_contestant(entered.contestant, envs, seed=seed), []
        for _ in range(300):
            actions = actor.act(seen, [0.0, 0.0], [True, True]).actions
            seen = [env.step(action)[0] for env, action in zip(envs, actions, strict=True)]
            places.append(np.concatenate([one["achieved_goal"] for one in seen]))
        return np.stack(places)

    first, again, other = path(0), path(0), path(1)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert not np.allclose(first[:, :2], first[:, 2:])  # each environment goes its own way
    found = evaluate(entered.contestant, ref, seeds=range(10), seed=0)
    assert 0.0 < np.mean([episode.score for episode in found.episodes]) < 1.0


def test_what_a_waypoint_controller_is_told_is_checked(mazes):
    with pytest.raises(ValueError, match="wander is 3; expected false, or true to go to random places"):
        enter(parse_entry("waypoints wander=3"), EnvRef.parse(MEDIUM))
    with pytest.raises(ValueError, match="has no option 'speed'; a waypoints takes wander, label"):
        parse_entry("waypoints speed=2")


ANTS = "gymnasium_robotics:AntMaze_UMaze-v5 continuing_task=False include_cfrc_ext_in_observation={contacts}"


@pytest.mark.parametrize("contacts", [False, True])
def test_an_ant_is_led_to_its_goals(mazes, contacts):
    ref = EnvRef.parse(ANTS.format(contacts=str(contacts).lower()))
    entered = enter(parse_entry("waypoints"), ref)
    assert [file.name for file in entered.files] == ["ant-points.safetensors"]
    found = evaluate(entered.contestant, ref, seeds=range(4), seed=0)
    assert sum(episode.score for episode in found.episodes) >= 3.0  # now and then it falls on its back


def test_the_policy_of_the_ant_is_what_ppo_learned(tmp_path):
    env = gym.make("tdm/AntPoints-v0")
    learned = PPO("MlpPolicy", env, policy_kwargs={"net_arch": [16, 8]}, seed=0, device="cpu")
    (tmp_path / "policy.safetensors").write_bytes(save(actor_of(learned.policy)))
    policy = AntPolicy.load(tmp_path / "policy.safetensors")
    ants, offsets = np.random.default_rng(0).normal(size=(5, 27)), np.arange(10.0).reshape(5, 2)
    acted = policy([{"observation": ant} for ant in ants], offsets)
    seen = np.stack([towards(ant, offset) for ant, offset in zip(ants, offsets, strict=True)])
    assert acted == pytest.approx(learned.predict(seen, deterministic=True)[0], abs=1e-6)
    env.close()


def test_its_data_are_collected_by_one_command(mazes, tmp_path):
    run(Collect(out=tmp_path, env_id=MEDIUM, actor=("waypoints episodes=6",), action_repeat=4))
    data = Trajectories.from_minari(tmp_path / "data", action_repeat=4)
    reached = 0
    for episode in data.iterate():
        at, goal = episode.observation[:, :2], episode.observation[:, 2:4]
        assert (goal == goal[0]).all()
        if not episode.alive[-1]:
            reached += 1
            assert np.linalg.norm(at[-1] - goal[-1]) < 0.46 and episode.reward[-1] == 1.0
    assert reached >= 3  # the others lost their way by the noise that all but `random` have
