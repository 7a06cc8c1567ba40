"""Models of one environment (figures 4 and 13, section 5.1.2, appendix G): return over the horizon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tdm_agents.studies.stages import (
    Collect,
    Evaluate,
    Figure,
    Plan,
    Protocol,
    Recipe,
    Role,
    Size,
    Stage,
    Study,
    Train,
)
from tdm_agents.studies.suite_data import SuiteTask, half_planned
from tdm_agents.training.train_config import TrainConfig

OTHER_TASKS = {"walker-stand": ("walker-walk", "walker-run")}
"""Tasks of the same body whose data a TDM is also trained on."""

MLPS: Mapping[str, Mapping[str, Any]] = {
    "MLP, change": {},
    "MLP, absolute": {"target": "absolute"},
    "MLP, tokens in": {"inputs": "tokens"},
    "MLP, tokens out": {"outputs": "tokens"},
    "MLP, tokens in and out": {"inputs": "tokens", "outputs": "tokens"},
}
"""Settings of the MLPs that the paper compares with, by label; a large one comes besides."""


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """Everything that differs between the sizes of the study."""

    tasks: tuple[SuiteTask, ...]
    random_episodes: int
    planned_episodes: int
    max_steps: int
    tdm: Recipe
    mlp: Recipe
    large: Mapping[str, Any]
    pets: Recipe
    rssm: Recipe
    protocol: Protocol


_EVALUATED: dict[str, Any] = {
    "evaluate_batches": 8,
    "starts": 64,
    "horizons": (1, 5, 10),
    "evaluate_every": 5_000,
}

SMALL = _Sizes(
    tasks=(
        SuiteTask(
            name="cartpole-swingup",
            repeat=4,
            candidates=128,
            horizons=(5, 15, 25),
            # as the shipped checkpoint plans, and as its data were collected
            tuned={"num_samples": 32, "iterations": 2},
            collector={"num_samples": 32, "iterations": 1, "horizon": 25},
        ),
        SuiteTask(name="walker-stand", repeat=4, candidates=64, horizons=(2, 5, 10)),
        # 90 tokens per decision, and a planner that takes seconds for each on the true dynamics
        SuiteTask(
            name="humanoid-stand", repeat=2, candidates=32, horizons=(4, 12), recorded_steps=250, windows=8
        ),
    ),
    random_episodes=60,
    planned_episodes=40,
    max_steps=1_000,
    tdm=Recipe(
        model="transformer",
        preset="small",
        settings={"dropout": 0.1},  # without, it learns a hundred episodes by heart
        action_repeat=1,  # the task's own, see recipe_for
        training=TrainConfig(steps=5_000, batch_size=24, window_steps=12, bf16=True, **_EVALUATED),
    ),
    mlp=Recipe(
        model="mlp",
        settings={"bins": 256},
        action_repeat=1,
        training=TrainConfig(steps=6_000, batch_size=64, learning_rate=1e-3, **_EVALUATED),
    ),
    large={"parameters": 478_000},
    pets=Recipe(
        model="pets",
        action_repeat=1,
        training=TrainConfig(steps=6_000, batch_size=64, learning_rate=1e-3, **_EVALUATED),
    ),
    rssm=Recipe(
        model="rssm",
        action_repeat=1,
        training=TrainConfig(steps=4_000, batch_size=16, window_steps=24, learning_rate=1e-3, **_EVALUATED),
    ),
    protocol=Protocol(episodes=5),
)

_TINY = TrainConfig(
    steps=6, batch_size=4, window_steps=4, evaluate_batches=1, horizons=(1,), starts=2, context_steps=2
)

SMOKE = _Sizes(
    tasks=(
        SuiteTask(name="cartpole-swingup", repeat=4, candidates=4, horizons=(2,)),
        SuiteTask(name="walker-stand", repeat=4, candidates=4, horizons=(2,)),
    ),
    random_episodes=2,
    planned_episodes=1,
    max_steps=40,
    tdm=Recipe(
        model="transformer",
        settings={"layers": 1, "width": 16, "heads": 2, "feedforward": 16},
        action_repeat=1,
        planner="policy",
        training=_TINY,
    ),
    mlp=Recipe(model="mlp", settings={"hidden": 8, "bins": 16}, action_repeat=1, training=_TINY),
    large={"hidden": 16},
    pets=Recipe(model="pets", settings={"hidden": 8}, action_repeat=1, training=_TINY),
    rssm=Recipe(
        model="rssm",
        settings={"deterministic": 8, "hidden": 8, "units": 8, "latents": 2, "classes": 2, "layers": 1},
        action_repeat=1,
        training=_TINY,
    ),
    protocol=Protocol(episodes=2, batch=2, max_steps=8),
)

_LONG: dict[str, Any] = {
    "evaluate_batches": 16,
    "starts": 256,
    "horizons": (1, 5, 10, 25),
    "evaluate_every": 10_000,
}

PAPER = _Sizes(
    tasks=(
        SuiteTask(name="cartpole-swingup", repeat=1, candidates=128, horizons=(10, 25, 50, 100)),
        SuiteTask(name="walker-stand", repeat=1, candidates=64, horizons=(5, 10, 25)),
        SuiteTask(name="humanoid-stand", repeat=1, candidates=64, horizons=(5, 10, 20)),
    ),
    random_episodes=500,
    planned_episodes=500,
    max_steps=1_000,
    tdm=Recipe(
        model="transformer",
        preset="gato-79m",
        action_repeat=1,
        training=TrainConfig(
            steps=200_000, batch_size=64, window_steps=30, learning_rate=1e-4, warmup_steps=2_000, bf16=True,
            **_LONG,
        ),
    ),
    mlp=Recipe(
        model="mlp",
        settings={"hidden": 512},
        action_repeat=1,
        training=TrainConfig(steps=200_000, batch_size=256, learning_rate=1e-3, **_LONG),
    ),
    large={"parameters": 77_000_000, "layers": 4},
    pets=Recipe(
        model="pets",
        preset="paper-cartpole",
        action_repeat=1,
        training=TrainConfig(steps=100_000, batch_size=256, learning_rate=1e-3, **_LONG),
    ),
    rssm=Recipe(
        model="rssm",
        preset="dreamer-v2",
        action_repeat=1,
        training=TrainConfig(steps=100_000, batch_size=16, window_steps=50, learning_rate=3e-4, **_LONG),
    ),
    protocol=Protocol(episodes=10),
)  # fmt: skip

SIZES: dict[Size, _Sizes] = {"smoke": SMOKE, "small": SMALL, "paper": PAPER}


def data_of(task: SuiteTask, of: _Sizes, other: str | None = None) -> Collect:
    """What is collected in a task, or in another one of the same body."""
    dataset = half_planned(
        task, random=of.random_episodes, planned=of.planned_episodes, of=other, max_steps=of.max_steps
    )
    return Collect(name=f"{other or task.name}-data", datasets=(dataset,))


def recipe_for(task: SuiteTask, recipe: Recipe, settings: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe at the time step of a task, with some settings changed."""
    held_out = 0.3 if recipe.training.steps < 100 else recipe.held_out_fraction
    changed = {**recipe.settings, **(settings or {})}
    return replace(recipe, action_repeat=task.repeat, settings=changed, held_out_fraction=held_out)


def tdm_of(task: SuiteTask, of: _Sizes) -> Train:
    """The TDM of a task, which other studies use too."""
    return Train(name=f"{task.name}-tdm", data=(f"{task.name}-data",), recipe=tdm_recipe(task, of))


def tdm_recipe(task: SuiteTask, of: _Sizes, settings: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of a task's TDM, with some settings changed."""
    recipe = recipe_for(task, of.tdm, settings)
    if task.windows is None:
        return recipe
    return replace(recipe, training=replace(recipe.training, batch_size=task.windows))


def _plan(size: Size) -> Plan:
    of = SIZES[size]
    stages: list[Stage] = []
    for task in of.tasks:
        stages += _task(task, of)
    return Plan(
        stages=tuple(stages),
        figure=Figure(
            title="Specialists: return over the planning horizon", kind="curves", x_label="horizon, decisions"
        ),
    )


def _task(task: SuiteTask, of: _Sizes) -> list[Stage]:
    """All stages of one task."""
    data = f"{task.name}-data"
    mlps = {label: recipe_for(task, of.mlp, settings) for label, settings in MLPS.items()}
    baselines = {
        **mlps,
        "MLP, large": recipe_for(task, of.mlp, of.large),
        "PETS": recipe_for(task, of.pets),
        "RSSM": recipe_for(task, of.rssm),
    }
    contestants = {"true dynamics": f"simulator action_repeat={task.repeat}", "TDM": f"{{{task.name}-tdm}}"}
    stages: list[Stage] = [data_of(task, of), tdm_of(task, of)]
    for other in OTHER_TASKS.get(task.name, ()):
        name = f"{task.name}-tdm-of-{other}"
        stages += [
            data_of(task, of, other),
            Train(name=name, data=(f"{other}-data",), recipe=tdm_recipe(task, of)),
        ]
        contestants[f"TDM, data of {other}"] = f"{{{name}}}"
    for label, recipe in baselines.items():
        name = f"{task.name}-{label.lower().replace(', ', '-').replace(' ', '-')}"
        stages.append(Train(name=name, data=(data,), recipe=recipe))
        contestants[label] = f"{{{name}}}"
    everywhere: dict[str, Any] = {"envs": (task.env,), "protocol": of.protocol}
    stages.append(
        Evaluate(
            name=f"{task.name}-random", label="random actions", line="random", role="random", **everywhere
        )
    )
    for planner, settings in (("random shooting", task.shooting), ("mppi", task.mppi)):
        for horizon in task.horizons:
            at = f"{task.name}-{planner.replace(' ', '-')}-{horizon}"
            for number, (label, who) in enumerate(contestants.items()):
                role: Role = "planned" if number else "simulator"
                reward = f" reward_function={task.env.id}" if number else ""
                stages.append(
                    Evaluate(
                        name=f"{at}-{number}",
                        label=label,
                        line=f"{who}{reward} {settings(horizon)}",
                        role=role,
                        reference=f"{at}-0",
                        x=horizon,
                        panel=f"{task.name}, {planner}",
                        **everywhere,
                    )
                )
    return stages


STUDY = Study(
    name="specialist",
    paper="figures 4 and 13, section 5.1.2, appendix G",
    question="With data of one environment, how does a TDM compare with other models, the further it plans?",
    plan=_plan,
)
