"""What is missing of a study, and about how long it takes on this machine.

Whoever plays without learned weights (random actions, planners on the true dynamics) is played for a moment,
here and now. What models need is computed from their sizes, at the rate of the machine (:mod:`.rates`). Hours
of several worker processes are divided by their number, up to that of the machine's processors, also where
trainings wait for each other; the start of processes is not counted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from rich.table import Table

from tdm_agents.actors.actor import Actor, steps_per_decision
from tdm_agents.actors.behaviour import BehaviourPolicy, RandomPolicy
from tdm_agents.actors.contestant import actor_of
from tdm_agents.actors.enter import enter
from tdm_agents.actors.entries import parse_entry
from tdm_agents.actors.functions import FunctionActor, UniformActions
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.entry_policy import ActorPolicy
from tdm_agents.collection.seeds import COLLECTION_FIRST
from tdm_agents.environments import Env, EnvRef, episode_limit, steps_at_most
from tdm_agents.protocols import ModelSpec
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.studies.rates import LEARNING_SECONDS, SHARES, operations_per_second
from tdm_agents.studies.running import Opened
from tdm_agents.studies.share_done import share_done
from tdm_agents.studies.stage_products import Product, preset_of
from tdm_agents.studies.stages import Collect, Evaluate, Recipe, Reinforce, Stage, Train, products_in
from tdm_agents.training.model_choice import trainable_class
from tdm_agents.world_models.transformer.generalist import Generalist
from tdm_agents.world_models.transformer.token_model import TokenModel

SAMPLED = 4
"""Environments of a stage that are tried out, at most."""
PLAYED_SECONDS = 0.5
"""For which each policy is played in each of them."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What is expected of one product.

    Attributes:
        product: The product.
        share: How much of it is there, from 0 to 1.
        seconds: Expected for the rest.
    """

    product: Product
    share: float
    seconds: float

    @property
    def state(self) -> str:
        """The share in words."""
        if self.product.done:
            return "complete"
        return f"{self.share:.0%} done" if self.share else "missing"


def forecast(one: Opened, *, device: str, workers: int, threads: int) -> list[Expected]:
    """What is missing of a study, in order; nothing is written.

    Args:
        one: The study.
        device: Where models train and plan.
        workers: Processes that play episodes, and train on a CPU; as many as there are processors count.
        threads: PyTorch's threads while a model trains.
    """
    workers = min(workers, os.cpu_count() or 1)  # more of them take as long on one machine
    rate = operations_per_second(device)
    trains = rate * (threads if device == "cpu" else 1)
    beside = workers if device == "cpu" else 1  # trainings side by side
    recipes = {stage.name: stage.recipe for stage in one.plan.stages if isinstance(stage, Train)}
    environments: dict[str, list[EnvRef]] = {}
    found = []
    for name, product in one.products.items():
        stage = product.stage
        if isinstance(stage, Collect):
            environments[name] = [dataset.env for dataset in stage.datasets]
        elif isinstance(stage, Reinforce):
            environments[name] = [stage.env]
        if product.done:
            found.append(Expected(product, 1.0, 0.0))
            continue
        if isinstance(stage, Reinforce):
            seconds = _reinforcement(stage) / beside
        elif isinstance(stage, Train):
            seconds = _training(stage, environments, trains) / beside
        elif isinstance(stage, Collect):
            seconds = _collection(stage) / workers
        else:
            seconds = _evaluation(stage, product, recipes, rate) / workers
        share = share_done(product)
        found.append(Expected(product, share, seconds * (1.0 - share)))
    return found


def table(one: Opened, expected: Sequence[Expected]) -> Table:
    """The forecast as a table."""
    total = sum(each.seconds for each in expected)
    missing = sum(not each.product.done for each in expected)
    shown = Table(
        title=f"{one.study.name}, {one.size}: {missing} of {len(expected)} products are missing, "
        f"about {_duration(total)}",
        caption="Whoever has no learned weights was just played for a moment in some environments; what "
        "models need follows from their sizes and the rate of this machine. Episodes are taken to "
        "last to their limit. Expect a factor of two.",
    )
    for column in ("product", "what", "state"):
        shown.add_column(column, overflow="fold")
    shown.add_column("expected", justify="right")
    for each in expected:
        product = each.product
        time_left = "-" if product.done else _duration(each.seconds)
        shown.add_row(product.stage.name, describe(product.stage), each.state, time_left)
    return shown


def describe(stage: Stage) -> str:
    """A stage in a few words."""
    if isinstance(stage, Reinforce):
        return f"learn a policy by {stage.algorithm}, {stage.steps:,} environment steps"
    if isinstance(stage, Collect):
        episodes = sum(sum(dataset.counts.values()) for dataset in stage.datasets)
        return f"collect {episodes:,} episodes in {len(stage.datasets)} environments"
    if isinstance(stage, Train):
        return f"train {stage.recipe.model}, {stage.recipe.training.steps:,} updates"
    return f"play {stage.protocol.episodes} episodes in {len(stage.envs)} environments"


def _reinforcement(stage: Reinforce) -> float:
    """Seconds of one process."""
    env = stage.env.make()
    try:
        observation, _ = env.reset(seed=COLLECTION_FIRST)
        actor = FunctionActor(UniformActions(env.action_space))
        acting = _seconds_per_step(actor, [env], [observation], 1)
    finally:
        env.close()
    return stage.steps * (acting + LEARNING_SECONDS[stage.algorithm])


def _collection(stage: Collect) -> float:
    """Seconds of one process."""
    played: dict[str, list[tuple[DatasetSpec, BehaviourPolicy, int]]] = {}
    for dataset in stage.datasets:
        for policy, count in dataset.mix:
            if count:
                played.setdefault(policy.name, []).append((dataset, policy, count))
    total = 0.0
    for those in played.values():
        each = float(np.mean([_episode(dataset, policy) for dataset, policy, _ in _some(those)]))
        total += each * sum(count for _, _, count in those)
    return total


def _episode(dataset: DatasetSpec, policy: BehaviourPolicy) -> float:
    """Seconds per episode of a policy."""
    env = dataset.make_env()
    try:
        observation, _ = env.reset(seed=COLLECTION_FIRST)
        if isinstance(policy, ActorPolicy) and products_in(policy.entry):
            policy = RandomPolicy()  # the other one is perhaps not there yet, and small
        started = policy.start(
            env, np.random.default_rng(0), ref=dataset.env, action_repeat=dataset.action_repeat
        )
        per_step = _seconds_per_step(started.actor, [env], [observation], dataset.action_repeat)
        return per_step * _steps(env, dataset.max_steps)
    finally:
        env.close()


def _evaluation(stage: Evaluate, product: Product, recipes: Mapping[str, Recipe], rate: float) -> float:
    """Seconds of one process."""
    learned = next((recipes[name] for name in stage.needs if name in recipes), None)
    per_env = []
    for env in _some(stage.envs):
        if learned is None:
            per_env.append(_played(stage, env))
        else:
            per_env.append(_imagined(stage, env, learned, product.depends["planner"], rate))
    return float(np.mean(per_env)) * len(stage.envs)


def _played(stage: Evaluate, env: EnvRef) -> float:
    """Seconds of a match of a contestant without learned weights."""
    # what is perhaps not there yet is a policy of Stable-Baselines3, and small
    entered = enter(parse_entry("random" if stage.needs else stage.line), env)
    batch = min(stage.protocol.batch, stage.protocol.episodes)
    envs = [env.make() for _ in range(batch)]
    try:
        observations = [made.reset(seed=seed)[0] for seed, made in enumerate(envs)]
        actor = actor_of(entered.contestant, envs, seed=0)
        per_step = _seconds_per_step(actor, envs, observations, steps_per_decision(actor))
        steps = _steps(envs[0], stage.protocol.max_steps)
    finally:
        for made in envs:
            made.close()
    return per_step * steps * stage.protocol.episodes / batch


def _imagined(
    stage: Evaluate, env: EnvRef, recipe: Recipe, planner: Mapping[str, Any] | None, rate: float
) -> float:
    """Seconds of a match of a planner on a learned model."""
    made = env.make()
    try:
        weights, rows = _size(recipe, made)
        steps = _steps(made, stage.protocol.max_steps)
    finally:
        made.close()
    settings: Mapping[str, Any] = {} if planner is None else planner["settings"]
    beams = settings.get("beam_width", 0) * settings.get("num_expand", 1)
    samples, iterations = settings.get("num_samples", beams), settings.get("iterations", 1)
    horizon = settings.get("horizon", 1)
    share = SHARES[recipe.model]
    operations = 2.0 * weights * rows * (samples * iterations * horizon + _history(recipe, rows))
    per_decision = operations / (share.imagining * rate)
    together = min(stage.protocol.batch, stage.protocol.episodes)
    per_decision += share.row_seconds * rows * horizon * iterations / together
    held = recipe.action_repeat * parse_entry(stage.line).options.get("replan_every", 1)
    return float(per_decision * stage.protocol.episodes * steps / held)


def _training(stage: Train, environments: Mapping[str, Sequence[EnvRef]], rate: float) -> float:
    recipe = stage.recipe
    envs = [env for name in stage.data for env in environments[name]]
    sizes = []
    for env in _some(envs[:1] if stage.only else envs):
        made = env.make()
        try:
            sizes.append(_size(recipe, made))
        finally:
            made.close()
    weights, rows = (float(np.mean(each)) for each in zip(*sizes, strict=True))
    training, share = recipe.training, SHARES[recipe.model]
    operations = 6.0 * weights * rows * training.batch_size * training.window_steps
    return training.steps * (operations / (share.learning * rate) + share.update_seconds)


def _size(recipe: Recipe, env: Env) -> tuple[float, float]:
    """The number of weights of a model of an environment, and of rows per transition."""
    spec = spec_of(env.observation_space, env.action_space, action_repeat=recipe.action_repeat)
    tokens = spec.observation_dim + spec.action_dim + 2
    of_tokens = issubclass(trainable_class(recipe.model), (TokenModel, Generalist))
    return _weights(_Built(recipe, spec)), float(tokens if of_tokens else 1)


@dataclass(frozen=True, slots=True)
class _Built:
    """A model to be counted; equal where the numbers of weights are."""

    recipe: Recipe = field(compare=False)
    spec: ModelSpec = field(compare=False)
    key: str = field(init=False)

    def __post_init__(self) -> None:
        _, config = preset_of(self.recipe)
        spec = self.spec
        key = f"{self.recipe.model} {config} {spec.observation_dim} {spec.action_dim} {spec.action_choices}"
        object.__setattr__(self, "key", key)


@cache  # the paper's sizes take a second each
def _weights(built: _Built) -> float:
    _, config = preset_of(built.recipe)
    model = trainable_class(built.recipe.model).build({"": built.spec}, config, seed=0)
    return float(sum(weight.numel() for _, weight in model.named_parameters()))


def _history(recipe: Recipe, rows: float) -> float:
    """Transitions of history that are read at every decision."""
    _, config = preset_of(recipe)
    return float(getattr(config, "context", 0)) / rows


def _seconds_per_step(actor: Actor, envs: Sequence[Env], observations: Sequence[Any], repeat: int) -> float:
    """Seconds per environment step, of all environments together; the first decision does not count."""
    current = list(observations)
    began, steps = 0.0, 0
    for decision in range(50):
        if decision == 1:
            began, steps = time.monotonic(), 0
        move = actor.act(current, [0.0] * len(envs), [True] * len(envs))
        for _ in range(repeat):
            for at, env in enumerate(envs):
                current[at] = env.step(move.actions[at])[0]
            steps += 1
        if decision and time.monotonic() - began > PLAYED_SECONDS:
            break
    return (time.monotonic() - began) / steps


def _some(everything: Sequence[Any]) -> list[Any]:
    """At most :data:`SAMPLED` of them, evenly spaced."""
    count = min(SAMPLED, len(everything))
    return [everything[at] for at in np.linspace(0, len(everything) - 1, count).astype(int)]


def _steps(env: Env, max_steps: int | None) -> int:
    """Environment steps of an episode that nothing ends early."""
    limits = (steps_at_most(env, max_steps), episode_limit(env))
    return min(limit for limit in limits if limit is not None)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3600:.1f} h"
