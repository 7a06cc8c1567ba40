"""A controller for mazes of points: a shortest path over the cells, and a force towards the next of them.

It plays the point mazes of gymnasium-robotics (the extra ``mazes``), as the controller of D4RL's data does
(Fu et al. 2020, arXiv:2004.07219). It looks into the maze; nothing is learned.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tdm_agents.actors.actor import Move
from tdm_agents.environments import Env
from tdm_agents.errors import WrongValueError
from tdm_agents.spaces import action_codec

Cell = tuple[int, int]
Walls = tuple[tuple[bool, ...], ...]
"""Rows of cells; True where a wall is."""

STIFFNESS, DAMPING = 10.0, 1.0
"""Of the force, in shares of the greatest per metre and per metre per second: those of D4RL's controller."""


@dataclass(frozen=True, slots=True)
class WaypointController:
    """A recipe for the controller, which looks into the mazes that it plays in."""

    def __call__(self, envs: Sequence[Env]) -> WaypointActor:
        """The controller of these environments.

        Raises:
            ValueError: If one is not a maze that a point moves through.
        """
        return WaypointActor([_maze_of(env) for env in envs], envs[0])


class WaypointActor:
    """An actor in mazes.

    Args:
        mazes: ``Maze`` of gymnasium-robotics, one per environment.
        env: One of the environments, for its action space.
    """

    action_repeat: int | None = None

    def __init__(self, mazes: Sequence[Any], env: Env) -> None:
        self._mazes = mazes
        self._walls = [_walls_of(maze.maze_map) for maze in mazes]
        self._codec = action_codec(env.action_space)

    def act(self, observations: Sequence[Any], rewards: Sequence[float], active: Sequence[bool]) -> Move:
        """See :class:`tdm_agents.actors.actor.Actor`."""
        began = time.perf_counter()
        codes = np.zeros((len(observations), 2), np.float32)
        for i, (seen, acting) in enumerate(zip(observations, active, strict=True)):
            if acting:
                codes[i] = self._force(i, seen)
        played = self._codec.decode(codes)
        return Move(
            [action if acting else None for action, acting in zip(played, active, strict=True)],
            [i for i, acting in enumerate(active) if acting],
            1e3 * (time.perf_counter() - began),
            codes=codes,
        )

    def _force(self, i: int, seen: Mapping[str, Any]) -> npt.NDArray[np.float64]:
        maze, at, goal = self._mazes[i], seen["achieved_goal"], seen["desired_goal"]
        here, there = _cell(maze, at), _cell(maze, goal)
        cell = next_cell(self._walls[i], here, there)
        target = goal if cell == there else maze.cell_rowcol_to_xy(np.array(cell))
        force: npt.NDArray[np.float64] = STIFFNESS * (target - at) - DAMPING * seen["observation"][2:]
        return np.clip(force, -1.0, 1.0)


def next_cell(walls: Walls, here: Cell, there: Cell) -> Cell:
    """The next cell of a shortest path, by steps between cells that share a side; ``there`` at its end.

    Raises:
        ValueError: If no path leads there.
    """
    distance = distances(walls, there)
    if here not in distance:
        raise WrongValueError(
            f"no path leads from cell {here} to cell {there} of a maze of {len(walls)} rows and "
            f"{len(walls[0])} columns; expected a maze in which every goal can be reached"
        )
    return min((here, *_beside(here)), key=lambda cell: distance.get(cell, len(distance)))


@cache
def distances(walls: Walls, there: Cell) -> Mapping[Cell, int]:
    """Steps to ``there`` from every cell from which a path leads there."""
    if walls[there[0]][there[1]]:
        return {}
    found, waiting = {there: 0}, deque([there])
    while waiting:
        cell = waiting.popleft()
        for other in _beside(cell):
            row, column = other
            inside = 0 <= row < len(walls) and 0 <= column < len(walls[0])
            if inside and not walls[row][column] and other not in found:
                found[other] = found[cell] + 1
                waiting.append(other)
    return found


def _beside(cell: Cell) -> tuple[Cell, ...]:
    row, column = cell
    return (row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)


def _cell(maze: Any, at: npt.NDArray[np.float64]) -> Cell:
    row, column = maze.cell_xy_to_rowcol(at)
    return int(row), int(column)


def _walls_of(maze_map: Sequence[Sequence[int | str]]) -> Walls:
    return tuple(tuple(cell == 1 for cell in row) for row in maze_map)


def _maze_of(env: Env) -> Any:
    inner: Any = env.unwrapped
    if not hasattr(inner, "maze") or not hasattr(inner, "point_env"):
        raise WrongValueError(
            f"{inner} is no maze that a point moves through, which waypoints play; expected one of "
            'gymnasium-robotics, such as "gymnasium_robotics:PointMaze_Medium-v3" (pip install '
            '"tdm-agents[mazes]")'
        )
    return inner.maze
