"""Mazes from recorded data alone: what a learned value is worth to a search (2106.02039, 2110.06169).

The mazes are those of gymnasium-robotics (the extra ``mazes``), through which a point or an ant moves. A
return is 1 where the goal was reached, so that mean returns are shares of successes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tdm_agents.actors.behaviour import RandomPolicy
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.entry_policy import ActorPolicy
from tdm_agents.environments import EnvRef
from tdm_agents.studies.entry_text import in_a_line
from tdm_agents.studies.offline_recipes import EVALUATED, UNPLANNED, imitation, paper, played, smoke
from tdm_agents.studies.stages import (
    Collect,
    Evaluate,
    Figure,
    Plan,
    Protocol,
    Recipe,
    Size,
    Stage,
    Study,
    Train,
)
from tdm_agents.training.train_config import TrainConfig

WIDTHS_IN = "Medium"
"""The maze in which searches with other numbers of beams play, too."""
CONTROLLER = ActorPolicy("waypoints wander=true", name="waypoints")
"""It goes to random places, as in D4RL's data: goals are reached by chance, and ways are put together."""
STEADY = replace(CONTROLLER, noise_sds=(0.0, 0.1, 0.2), burst_episodes=0.0)
"""The controller of ants, disturbed about as much as in D4RL's data: more of it, and most of them fall."""


def point_maze(name: str) -> EnvRef:
    """A point mass in a maze, whose episodes end at the goal."""
    return EnvRef(f"PointMaze_{name}-v3", {"continuing_task": False}, module="gymnasium_robotics")


def ant_maze(name: str) -> EnvRef:
    """An ant in a maze of the same plan, with cells of 4 m instead of 1; it does not see its contacts."""
    kwargs = {"continuing_task": False, "include_cfrc_ext_in_observation": False}
    return EnvRef(f"AntMaze_{name}-v5", kwargs, module="gymnasium_robotics")


@dataclass(frozen=True, kw_only=True)
class _Mazes:
    """What moves through which mazes, and everything that differs between the sizes of the study."""

    body: str
    env: Callable[[str], EnvRef]
    mazes: tuple[str, ...]
    controller: ActorPolicy = CONTROLLER
    planned_episodes: int
    random_episodes: int
    transformer: Recipe
    iql: Recipe
    search: Mapping[str, Any]
    widths: tuple[int, ...] = ()
    mppi: Mapping[str, Any]
    protocol: Protocol


_POINTS = _Mazes(
    body="",
    env=point_maze,
    mazes=("UMaze", "Medium", "Large"),
    planned_episodes=2_000,  # of 400, six thousand updates learn every step by heart
    random_episodes=250,
    transformer=Recipe(
        model="trajectory_transformer",
        preset="small",
        settings={"context": 60},
        action_repeat=4,  # of 0.01 s each
        training=TrainConfig(steps=6_000, batch_size=24, window_steps=12, bf16=True, **EVALUATED),
    ),
    iql=Recipe(
        model="iql",
        preset="antmaze",
        settings=UNPLANNED,
        action_repeat=4,
        training=TrainConfig(steps=50_000, batch_size=256, window_steps=2, **EVALUATED),
    ),
    search={"horizon": 8, "beam_width": 16},
    widths=(1, 4, 32),
    mppi={"horizon": 8, "num_samples": 32, "num_policy": 16, "iterations": 3},
    protocol=Protocol(episodes=50, batch=25),
)

_ANTS = replace(
    _POINTS,
    body="ant-",
    env=ant_maze,
    mazes=("UMaze", "Medium"),
    controller=STEADY,
    planned_episodes=2_000,  # of up to 700 steps; IQL reached a tenth of the goals from 600
    random_episodes=200,
    transformer=replace(
        _POINTS.transformer,
        settings={"context": 160},  # four steps
        action_repeat=1,  # of 0.05 s
        training=replace(_POINTS.transformer.training, steps=4_000, batch_size=8),
    ),
    iql=replace(_POINTS.iql, action_repeat=1, training=replace(_POINTS.iql.training, steps=150_000)),
    search={"horizon": 5, "beam_width": 16, "replan_every": 2},
    widths=(),
    # noise alone does not move an ant: half of the candidates follow IQL's policy
    mppi={"horizon": 4, "num_samples": 16, "num_policy": 8, "iterations": 1, "replan_every": 4},
    protocol=Protocol(episodes=20, batch=20),
)

_SMOKE = replace(
    _POINTS,
    mazes=("UMaze",),
    planned_episodes=4,
    random_episodes=2,
    transformer=smoke(_POINTS.transformer),
    iql=smoke(_POINTS.iql),
    search={"horizon": 2, "beam_width": 2},
    widths=(),
    mppi={"horizon": 2, "num_samples": 4, "num_policy": 1},
    protocol=Protocol(episodes=2, batch=2, max_steps=8),
)


def _paper(small: _Mazes) -> _Mazes:
    """The sizes of the papers."""
    return replace(
        small,
        mazes=("UMaze", "Medium", "Large"),
        planned_episodes=4_000,
        random_episodes=500,
        transformer=paper(small.transformer),
        iql=paper(small.iql),
        search={"horizon": 15, "beam_width": 128},
        mppi={**small.mppi, "horizon": 15, "num_samples": 128},
        protocol=Protocol(episodes=100, batch=10),
    )


SIZES: dict[Size, tuple[_Mazes, ...]] = {
    "smoke": (_SMOKE,),
    "small": (_POINTS, _ANTS),
    "paper": (_paper(_POINTS), _paper(_ANTS)),
}


def _plan(size: Size) -> Plan:
    stages = [stage for of in SIZES[size] for name in of.mazes for stage in _maze(name, of)]
    return Plan(
        stages=tuple(stages),
        figure=Figure(title="Mazes, from recorded data", kind="successes", one="the controller of the data"),
    )


def _maze(name: str, of: _Mazes) -> list[Stage]:
    """All stages of one maze."""
    env, key = of.env(name), of.body + name.lower()
    data = DatasetSpec(
        env=env,
        mix=((of.controller, of.planned_episodes), (RandomPolicy(), of.random_episodes)),
        action_repeat=of.transformer.action_repeat,
    )
    everywhere: dict[str, Any] = {"envs": (env,), "protocol": of.protocol, "reference": f"{key}-waypoints"}
    transformer, iql, value = f"{{{key}-transformer}}", f"{{{key}-iql}}", f"discount=0.99 value={{{key}-iql}}"
    tokens = {"planner": "beam_search", "level": "token", **of.search}
    search = in_a_line(tokens)
    mppi = in_a_line({"planner": "mppi", **of.mppi})
    near = f"support={{{key}-data}}"
    stages: list[Stage] = [
        Collect(name=f"{key}-data", datasets=(data,)),
        Train(name=f"{key}-iql", data=(f"{key}-data",), recipe=of.iql),
        Train(name=f"{key}-imitator", data=(f"{key}-data",), recipe=imitation(of.iql)),
        Train(name=f"{key}-transformer", data=(f"{key}-data",), recipe=of.transformer),
        Evaluate(
            name=f"{key}-random",
            label="random actions",
            line="random",
            role="random",
            envs=(env,),
            protocol=of.protocol,
        ),
        Evaluate(
            name=f"{key}-waypoints",
            label="the controller of the data, sent to the goal",
            line="waypoints",
            role="simulator",
            **everywhere,
        ),
    ]
    contestants = {
        "imitated": ("behaviour cloning", f"{{{key}-imitator}} planner=policy"),
        "cloned": ("the transformer's policy", f"{transformer} planner=policy"),
        "policy": ("IQL", f"{iql} planner=policy"),
        "search": ("beam search over tokens, returns to go", f"{transformer} {search} discount=0.99"),
        "mppi-near": (
            "MPPI on the transformer near the data, IQL's value and policy",
            f"{transformer} {mppi} {value} proposal={{{key}-iql}} {near}",
        ),
        "search-value": ("beam search over tokens, IQL's value", f"{transformer} {search} {value}"),
        "search-near": (
            "beam search over tokens near the data, IQL's value",
            f"{transformer} {search} {value} {near}",
        ),
    }
    for width in of.widths if name == WIDTHS_IN else ():
        label = f"the same with {width} beam{'s' if width > 1 else ''} instead of {of.search['beam_width']}"
        line = f"{transformer} {in_a_line({**tokens, 'beam_width': width})} {value} {near}"
        contestants[f"search-near-{width}"] = (label, line)
    return stages + played(key, contestants, **everywhere)


STUDY = Study(
    name="offline",
    paper="2106.02039, section 4.2, and 2110.06169",
    question="From recorded data alone, does a search with a learned value find goals that it does not see?",
    plan=_plan,
)
