"""A new environment from few episodes (figures 6 and 11): fine-tuned generalists, models from scratch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
from tdm_agents.studies.suite_data import SuiteTask, half_planned, of_many_tasks
from tdm_agents.training.train_config import TrainConfig
from tdm_envs.suite_tasks import GENERALIST, GENERALIST_WITH_POLES, TaskName


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """Everything that differs between the sizes of the study.

    Attributes:
        task: The task that is new; its time step is also that of pre-training.
        seen: Tasks of pre-training, and those with relatives of the new one.
        random_episodes: Episodes of random actions in each task of pre-training.
        planned_episodes: Episodes of a planner in each.
        collector: Settings of that planner.
        pretraining_steps: Environment steps of each such episode.
        episodes: Numbers of episodes of the new task.
        draws: How often those are drawn anew.
        pretrained: The generalist.
        tuned: The same model in the new task, fine-tuned or from scratch.
        mlp: The best of the MLPs of the study ``specialist``.
        max_steps: Environment steps of an episode of the new task.
        protocol: Seeds and length of evaluations.
    """

    task: SuiteTask
    seen: Mapping[str, tuple[TaskName, ...]]
    random_episodes: int
    planned_episodes: int
    collector: Mapping[str, Any]
    pretraining_steps: int
    episodes: tuple[int, ...]
    draws: int
    pretrained: Recipe
    tuned: Recipe
    mlp: Recipe
    max_steps: int
    protocol: Protocol


_SEEN = {"": GENERALIST, "-poles": GENERALIST_WITH_POLES}
_FEW: dict[str, Any] = {"evaluate_batches": 1, "starts": 8, "horizons": (1, 5), "evaluate_every": 20_000}
# a decision of the largest task is 102 tokens long; of a cartpole, 8
_SMALL_MODEL: dict[str, Any] = {"layers": 4, "width": 128, "feedforward": 384, "context": 312}

SMALL = _Sizes(
    task=SuiteTask(
        name="cartpole-swingup",
        repeat=4,
        candidates=128,
        horizons=(25,),
        # as its data were collected
        tuned={"num_samples": 32, "iterations": 1},
        collector={"num_samples": 32, "iterations": 1, "horizon": 25},
    ),
    seen=_SEEN,
    random_episodes=6,
    planned_episodes=4,
    collector={"num_samples": 16, "horizon": 10, "iterations": 1, "noise_knots": 4, "execute": "mean"},
    pretraining_steps=400,
    episodes=(1, 3, 10, 30, 100),
    draws=3,
    pretrained=Recipe(
        model="generalist",
        preset="small-paper-tokens",
        settings=_SMALL_MODEL,
        action_repeat=4,
        training=TrainConfig(
            steps=12_000, batch_size=32, window_steps=6, learning_rate=1e-3, warmup_steps=500,
            context_steps=3, checkpoint_every=2_000, **_FEW,
        ),
    ),
    tuned=Recipe(
        model="transformer",
        preset="small-paper-tokens",
        settings={**_SMALL_MODEL, "max_observation": 78, "max_action": 21},
        action_repeat=4,
        # windows as long as the histories that the context holds here
        training=TrainConfig(steps=600, batch_size=6, window_steps=40, learning_rate=5e-4, **_FEW),
        held_out_fraction=1e-3,
    ),
    mlp=Recipe(
        model="mlp",
        action_repeat=4,
        training=TrainConfig(steps=3_000, batch_size=64, learning_rate=1e-3, **_FEW),
        held_out_fraction=1e-3,
    ),
    max_steps=1_000,
    protocol=Protocol(episodes=3),
)  # fmt: skip

_TINY = TrainConfig(
    steps=4, batch_size=4, window_steps=3, evaluate_batches=1, horizons=(1,), starts=2, context_steps=2
)
_TINY_MODEL: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "feedforward": 16, "context": 60}
_TWO = (TaskName("pendulum", "swingup"), TaskName("cartpole", "two_poles"))

SMOKE = _Sizes(
    task=SuiteTask(name="cartpole-swingup", repeat=4, candidates=4, horizons=(2,)),
    seen={"": (TaskName("acrobot", "swingup"), _TWO[0]), "-poles": _TWO},
    random_episodes=1,
    planned_episodes=1,
    collector={"num_samples": 4, "horizon": 2, "iterations": 1},
    pretraining_steps=32,
    episodes=(1, 2),
    draws=1,
    pretrained=Recipe(
        model="generalist",
        preset="small-paper-tokens",
        settings={**_TINY_MODEL, "max_observation": 8, "max_action": 1},
        action_repeat=4,
        planner="policy",
        training=_TINY,
    ),
    tuned=Recipe(
        model="transformer",
        preset="small-paper-tokens",
        settings={**_TINY_MODEL, "max_observation": 8, "max_action": 1},
        action_repeat=4,
        planner="policy",
        training=_TINY,
        held_out_fraction=1e-3,
    ),
    mlp=Recipe(model="mlp", settings={"hidden": 8}, action_repeat=4, training=_TINY, held_out_fraction=1e-3),
    max_steps=32,
    protocol=Protocol(episodes=2, batch=2, max_steps=8),
)

PAPER = _Sizes(
    task=SuiteTask(name="cartpole-swingup", repeat=1, candidates=128, horizons=(100,)),
    seen=_SEEN,
    random_episodes=200,
    planned_episodes=200,
    collector={"num_samples": 32, "horizon": 25, "iterations": 1, "noise_knots": 4, "execute": "mean"},
    pretraining_steps=1_000,
    episodes=(1, 3, 10, 30, 100),
    draws=3,
    pretrained=Recipe(
        model="generalist",
        preset="gato-79m",
        action_repeat=1,
        training=TrainConfig(
            steps=500_000, batch_size=128, window_steps=20, learning_rate=1e-4, warmup_steps=5_000, bf16=True,
            context_steps=8, checkpoint_every=2_000, **_FEW,
        ),
    ),
    tuned=Recipe(
        model="transformer",
        preset="gato-79m",
        settings={"max_observation": 78, "max_action": 21},
        action_repeat=1,
        training=TrainConfig(
            steps=10_000, batch_size=64, window_steps=100, learning_rate=3e-5, bf16=True, **_FEW
        ),
        held_out_fraction=1e-3,
    ),
    mlp=Recipe(
        model="mlp",
        settings={"hidden": 512},
        action_repeat=1,
        training=TrainConfig(steps=20_000, batch_size=256, learning_rate=1e-3, **_FEW),
        held_out_fraction=1e-3,
    ),
    max_steps=1_000,
    protocol=Protocol(episodes=5),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Model:
    """What is learned from a draw; from scratch where there is no source."""

    name: str
    label: str
    recipe: Recipe
    source: str | None = None


def _plan(size: Size) -> Plan:
    of = {"smoke": SMOKE, "small": SMALL, "paper": PAPER}[size]
    task = of.task
    everywhere: dict[str, Any] = {"envs": (task.env,), "protocol": of.protocol}
    planner = task.mppi(task.horizons[-1])
    stages: list[Stage] = [
        Evaluate(name="random", label="random actions", line="random", role="random", **everywhere),
        Evaluate(
            name="simulator",
            label="true dynamics, same planner",
            line=f"simulator action_repeat={task.repeat} {planner}",
            role="simulator",
            reference="simulator",
            **everywhere,
        ),
    ]
    for which, tasks in of.seen.items():
        datasets = of_many_tasks(
            tasks,
            random=of.random_episodes,
            planned=of.planned_episodes,
            planner=of.collector,
            repeat=task.repeat,
            max_steps=of.pretraining_steps,
        )
        stages += [
            Collect(name=f"seen{which}", datasets=datasets),
            Train(name=f"generalist{which}", data=(f"seen{which}",), recipe=of.pretrained),
        ]
    models = (
        _Model("tuned", "TDM, fine-tuned", of.tuned, "generalist"),
        _Model("tuned-poles", "TDM, fine-tuned (more poles seen)", of.tuned, "generalist-poles"),
        _Model("scratch", "TDM from scratch", of.tuned),
        _Model("mlp", "MLP from scratch", of.mlp),
    )
    for count in of.episodes:
        for draw in range(of.draws):
            stages += _draw(task, count, draw, models, planner, everywhere, of.max_steps)
    return Plan(
        stages=tuple(stages),
        figure=Figure(
            title="A new environment from few episodes",
            kind="curves",
            x_label="episodes of the new environment",
            logarithmic=True,
        ),
    )


def _draw(
    task: SuiteTask,
    count: int,
    draw: int,
    models: Sequence[_Model],
    planner: str,
    everywhere: Mapping[str, Any],
    max_steps: int,
) -> list[Stage]:
    """One draw of a number of episodes, and what is learned from it."""
    data = f"episodes-{count}-{draw}"
    # one more, which is held out and never trained on
    dataset = half_planned(task, random=0, planned=count + 1, seed=draw, max_steps=max_steps)
    stages: list[Stage] = [Collect(name=data, datasets=(dataset,))]
    for model in models:
        name = f"{model.name}-{count}-{draw}"
        stages += [
            Train(name=name, data=(data,), recipe=model.recipe, init_from=model.source),
            Evaluate(
                name=f"{name}-returns",
                label=model.label,
                line=f"{{{name}}} reward_function={task.env.id} {planner}",
                reference="simulator",
                x=count,
                **everywhere,
            ),
        ]
    return stages


STUDY = Study(
    name="few-shot",
    paper="figures 6 and 11",
    question="How few episodes of a new environment does a generalist need, beside models from scratch?",
    plan=_plan,
)
