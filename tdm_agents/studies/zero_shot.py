"""Bodies that were never trained on (the paper's figure 7): planning against imitation, the same weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tdm_agents.studies.entry_text import in_a_line
from tdm_agents.studies.stages import Collect, Evaluate, Figure, Plan, Protocol, Recipe, Size, Study, Train
from tdm_agents.studies.walker_data import random_and_expert, undisturbed_expert, walkers
from tdm_agents.training.train_config import TrainConfig

STEPS = 400
"""Environment steps per episode, of data and of evaluations."""
REPEAT = 2
"""Environment steps per decision: the experts' of walkers."""


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """Everything that differs between the sizes of the study."""

    train_bodies: int  # of all families together, as the next
    unseen_bodies: int
    dof: tuple[int, int]
    random_episodes: int
    expert_episodes: int
    imitated_episodes: int
    max_steps: int
    generalist: Recipe
    steps: Recipe  # a generalist of whole steps, on the same data
    specialist: Recipe
    planner: dict[str, Any]
    protocol: Protocol


def _observed(**changes: Any) -> TrainConfig:
    """Training with few held-out numbers per body, since there are many bodies."""
    few = {"evaluate_batches": 1, "starts": 8, "horizons": (1, 5), "evaluate_every": 20_000}
    return TrainConfig(**{**few, **changes})


# the tuned planner of walkers (`tdm experts list`) with twice the candidates, and without memory between
# decisions, as in the paper
_MPPI: dict[str, Any] = {
    "planner": "mppi",
    "num_samples": 32,
    "horizon": 8,
    "iterations": 1,
    "noise_knots": 3,
    "initial_std": 0.7,
    "temperature": 0.3,
    "execute": "mean",
    "warm_start": False,
}

_LEARNING = _observed(
    steps=9_000,
    batch_size=96,
    window_steps=12,
    learning_rate=2e-3,
    warmup_steps=500,
    context_steps=6,
    evaluate_every=10**6,
    horizons=(1, 5),
    starts=4,
    bf16=True,
)

GENERALIST = Recipe(
    model="generalist",
    preset="small-generalist",
    settings={"width": 128, "feedforward": 256},
    action_repeat=REPEAT,
    held_out_fraction=0.08,
    training=_LEARNING,
)
"""The generalist of the size ``small``, trained as one does on a GPU."""

STEPS_GENERALIST = replace(
    GENERALIST,
    model="step_generalist",
    settings={"layers": 4, "width": 192, "heads": 6, "feedforward": 384},
    training=replace(_LEARNING, steps=6_000),
)
"""The generalist of whole steps of the size ``small``; an imagined step costs it one forward."""

SMALL = _Sizes(
    train_bodies=160,
    unseen_bodies=10,
    dof=(5, 10),
    random_episodes=8,
    expert_episodes=4,
    imitated_episodes=12,
    max_steps=STEPS,
    generalist=GENERALIST,
    steps=STEPS_GENERALIST,
    specialist=Recipe(
        model="transformer",
        preset="small",
        settings={"context": 400, "action_weight": 1.0},
        action_repeat=REPEAT,
        training=_observed(steps=600, batch_size=12, window_steps=8, learning_rate=2e-3, context_steps=6),
    ),
    planner=_MPPI,
    protocol=Protocol(episodes=3, batch=3, max_steps=STEPS),
)

SMOKE = _Sizes(
    train_bodies=3,
    unseen_bodies=2,
    dof=(4, 5),
    random_episodes=2,
    expert_episodes=1,
    imitated_episodes=2,
    max_steps=24,
    generalist=Recipe(
        model="generalist",
        preset="small-paper-tokens",
        settings={"layers": 1, "width": 16, "heads": 2, "feedforward": 16, "context": 96},
        action_repeat=REPEAT,
        planner="policy",  # timed at the end of training, and the fastest
        training=_observed(
            steps=30,
            batch_size=8,
            window_steps=4,
            horizons=(1,),
            starts=2,
            context_steps=2,
            checkpoint_every=10,
        ),
    ),
    steps=Recipe(
        model="step_generalist",
        preset="small-generalist",
        settings={"layers": 1, "width": 16, "heads": 2, "feedforward": 16, "context": 96},
        action_repeat=REPEAT,
        training=_observed(steps=10, batch_size=4, window_steps=4, horizons=(1,), starts=2, context_steps=2),
    ),
    specialist=Recipe(
        model="transformer",
        preset="small-paper-tokens",
        settings={
            "layers": 1,
            "width": 16,
            "heads": 2,
            "feedforward": 16,
            "context": 96,
            "action_weight": 1.0,
        },
        action_repeat=REPEAT,
        planner="policy",  # timed at the end of training, and the fastest
        training=_observed(steps=10, batch_size=4, window_steps=4, horizons=(1,), starts=2, context_steps=2),
    ),
    planner={**_MPPI, "num_samples": 4, "horizon": 2, "noise_knots": None},
    protocol=Protocol(episodes=2, batch=2, max_steps=16),
)

_PAPER_GENERALIST = Recipe(
    model="generalist",
    preset="gato-79m",
    action_repeat=REPEAT,
    training=_observed(
        steps=500_000,
        batch_size=128,
        window_steps=30,
        learning_rate=1e-4,
        warmup_steps=5_000,
        context_steps=20,
        checkpoint_every=2_000,
        bf16=True,
    ),
)

PAPER = _Sizes(
    train_bodies=1_000,
    unseen_bodies=10,
    dof=(4, 20),
    random_episodes=20,
    expert_episodes=20,
    imitated_episodes=100,
    max_steps=1_000,
    generalist=_PAPER_GENERALIST,
    steps=replace(_PAPER_GENERALIST, model="step_generalist"),
    specialist=Recipe(
        model="transformer",
        preset="gato-79m",
        action_repeat=REPEAT,
        training=_observed(
            steps=20_000, batch_size=32, window_steps=30, learning_rate=1e-4, context_steps=20, bf16=True
        ),
    ),
    planner=_MPPI,
    protocol=Protocol(episodes=10, batch=10, max_steps=1_000),
)


def _plan(size: Size, families: tuple[str, ...]) -> Plan:
    of = {"smoke": SMOKE, "small": SMALL, "paper": PAPER}[size]
    seen = walkers(families, math.ceil(of.train_bodies / len(families)), "train", 0, of.dof)
    unseen = walkers(families, math.ceil(of.unseen_bodies / len(families)), "test", 1, of.dof)
    data = random_and_expert(
        seen, random=of.random_episodes, expert=of.expert_episodes, max_steps=of.max_steps
    )
    imitated = undisturbed_expert(unseen, episodes=of.imitated_episodes, max_steps=of.max_steps)
    planner = in_a_line(of.planner)
    everywhere: dict[str, Any] = {"envs": unseen, "protocol": of.protocol}
    scaled: dict[str, Any] = {**everywhere, "reference": "simulator"}
    imitators: list[Train | Evaluate] = []
    for number, (env, dataset) in enumerate(zip(unseen, imitated, strict=True)):
        name = f"imitator-{number}"
        imitators += [
            Train(name=name, data=("experts",), only=dataset.name, recipe=of.specialist),
            Evaluate(
                name=f"{name}-returns",
                label="imitation trained on this body",
                line=f"{{{name}}} planner=policy",
                envs=(env,),
                protocol=of.protocol,
                role="other",
                reference="simulator",
            ),
        ]
    return Plan(
        stages=(
            Collect(name="walkers", datasets=data),
            Collect(name="experts", datasets=imitated),
            Train(name="generalist", data=("walkers",), recipe=of.generalist),
            Train(name="steps", data=("walkers",), recipe=of.steps),
            Evaluate(name="random", label="random actions", line="random", role="random", **everywhere),
            Evaluate(
                name="simulator",
                label="true dynamics, same planner",
                line=f"simulator action_repeat={REPEAT} {planner}",
                role="simulator",
                **scaled,
            ),
            Evaluate(
                name="planned",
                label="TDM, plans (predicted rewards)",
                line=f"{{generalist}} unseen=true {planner}",
                **scaled,
            ),
            Evaluate(
                name="steps-planned",
                label="TDM of whole steps, plans",
                line=f"{{steps}} unseen=true {planner}",
                **scaled,
            ),
            Evaluate(
                name="policy",
                label="same weights as policy, expert's prompt",
                line="{generalist} unseen=true planner=policy prompt={experts}",
                role="other",
                **scaled,
            ),
            *imitators,
        ),
        figure=Figure(title=f"Unseen walkers ({', '.join(families)}), without training on them"),
    )


STUDY = Study(
    name="zero-shot",
    paper="figure 7",
    question="Does a generalist that plans act well in bodies it never saw, where imitation does not?",
    plan=partial(_plan, families=("chain",)),
)

ALL_FAMILIES = Study(
    name="zero-shot-families",
    paper="figure 7",
    question="The same for walkers of all four families, which one model has to tell apart.",
    plan=partial(_plan, families=("line", "chain", "bush", "tree")),
)
