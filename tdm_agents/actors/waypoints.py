"""A controller for mazes: a shortest path over the cells, and a way to move towards the next of them.

It plays the mazes of gymnasium-robotics (the extra ``mazes``), as the controller of D4RL's data does (Fu et
al. 2020, arXiv:2004.07219). It looks into the maze. A point is pushed by a force, and nothing is learned; an
ant is moved by a policy that has learned to run to points (:mod:`tdm_envs.ant_points`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tdm_agents.actors.actor import Move
from tdm_agents.actors.ant_policy import ANT_POLICY, AntPolicy
from tdm_agents.environments import Env
from tdm_agents.errors import WrongValueError
from tdm_agents.spaces import ActionCodec

Cell = tuple[int, int]
Walls = tuple[tuple[bool, ...], ...]
"""Rows of cells; True where a wall is."""

STIFFNESS, DAMPING = 10.0, 1.0
"""Of the force, in shares of the greatest per metre and per metre per second: those of D4RL's controller."""

Drive = Callable[[Sequence[Mapping[str, Any]], npt.NDArray[np.float64]], npt.NDArray[Any]]
"""Actions in [-1, 1], ``[N, m]``, of ``N`` observations and the ways ``[N, 2]`` to their next points (m)."""


@dataclass(frozen=True, slots=True)
class WaypointController:
    """A recipe for the controller, which looks into the mazes that it plays in.

    Attributes:
        wander: Whether it goes to one random cell after another instead of to the goal, as in D4RL's data of
            mazes: goals are then reached by chance only, and ways to them are to be put together.
    """

    wander: bool = False

    def __call__(self, envs: Sequence[Env], seed: int = 0) -> WaypointActor:
        """The controller of these environments.

        Args:
            envs: Mazes.
            seed: Seed of the cells it wanders to.

        Raises:
            ValueError: If one is not a maze that a point or an ant moves through.
        """
        mazes = [_maze_of(env) for env in envs]
        drive = push if _has(envs[0], "point_env") else AntPolicy.load()
        rngs = np.random.default_rng(seed).spawn(len(envs)) if self.wander else None
        return WaypointActor(mazes, envs[0], drive, rngs)


class WaypointActor:
    """An actor in mazes.

    Args:
        mazes: ``Maze`` of gymnasium-robotics, one per environment.
        env: One of the environments, for its action space.
        drive: How to move towards a point.
        wandering: One generator per environment, of the cells to go to instead of the goal; None goes to the
            goal.
    """

    action_repeat: int | None = None

    def __init__(
        self,
        mazes: Sequence[Any],
        env: Env,
        drive: Drive,
        wandering: Sequence[np.random.Generator] | None = None,
    ) -> None:
        self._mazes = mazes
        self._walls = [_walls_of(maze.maze_map) for maze in mazes]
        self._codec = ActionCodec(env.action_space)
        self._drive = drive
        self._wandering = wandering
        self._headed: dict[int, Cell] = {}  # by environment

    def act(self, observations: Sequence[Any], rewards: Sequence[float], active: Sequence[bool]) -> Move:
        """See :class:`tdm_agents.actors.actor.Actor`."""
        began = time.perf_counter()
        rows = [i for i, acting in enumerate(active) if acting]
        codes = np.zeros((len(observations), self._codec.dim), np.float32)
        if rows:
            offsets = np.stack([self._way(i, observations[i]) for i in rows])  # [N, 2]
            codes[rows] = self._drive([observations[i] for i in rows], offsets)
        played = self._codec.decode(codes)
        return Move(
            [action if acting else None for action, acting in zip(played, active, strict=True)],
            rows,
            1e3 * (time.perf_counter() - began),
            codes=codes,
        )

    def _way(self, i: int, seen: Mapping[str, Any]) -> npt.NDArray[np.float64]:
        """From where it is to the middle of the next cell, or to the goal (m)."""
        maze, at, goal = self._mazes[i], seen["achieved_goal"], seen["desired_goal"]
        here = _cell(maze, at)
        there = _cell(maze, goal) if self._wandering is None else self._wander(i, here, self._wandering[i])
        cell = next_cell(self._walls[i], here, there)
        to_goal = self._wandering is None and cell == there
        target = goal if to_goal else maze.cell_rowcol_to_xy(np.array(cell))
        way: npt.NDArray[np.float64] = target - at
        return way

    def _wander(self, i: int, here: Cell, rng: np.random.Generator) -> Cell:
        """The cell that it is headed for: another one as soon as it is there."""
        there = self._headed.get(i, here)
        if here == there:
            others = sorted(cell for cell in distances(self._walls[i], here) if cell != here)
            there = others[rng.integers(len(others))] if others else here
            self._headed[i] = there
        return there


def files_of(env: Env) -> tuple[Path, ...]:
    """The files that the controller reads in an environment."""
    return (ANT_POLICY,) if _has(env, "ant_env") else ()


def push(seen: Sequence[Mapping[str, Any]], offsets: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The force of a point, of at most 1 per axis: a spring and a damper."""
    velocities = np.stack([one["observation"][2:] for one in seen])
    return np.clip(STIFFNESS * offsets - DAMPING * velocities, -1.0, 1.0)


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
    if not (_has(env, "maze") and (_has(env, "point_env") or _has(env, "ant_env"))):
        raise WrongValueError(
            f"{env.unwrapped} is no maze that a point or an ant moves through, which waypoints play; "
            'expected one of gymnasium-robotics, such as "gymnasium_robotics:PointMaze_Medium-v3" (pip '
            'install "tdm-agents[mazes]")'
        )
    inner: Any = env.unwrapped
    return inner.maze


def _has(env: Env, name: str) -> bool:
    return hasattr(env.unwrapped, name)
