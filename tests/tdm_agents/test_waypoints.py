"""The controller of mazes: shortest paths, and goals that it reaches in the mazes of gymnasium-robotics."""

import gymnasium as gym
import numpy as np
import pytest

from tdm_agents.actors.enter import enter
from tdm_agents.actors.entries import parse_entry
from tdm_agents.actors.waypoints import WaypointController, distances, next_cell
from tdm_agents.cli.collect import Collect, run
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import EnvRef
from tdm_agents.evaluation.episodes import evaluate

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
