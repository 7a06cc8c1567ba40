"""The stages of a study, as plain settings: reinforce, collect, train and evaluate; and its figure.

A stage makes one product and names those that it needs. Nothing here does anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.entry_policy import ActorPolicy
from tdm_agents.collection.names import check_name
from tdm_agents.collection.seeds import EVALUATION_FIRST, EVALUATION_LAST
from tdm_agents.environments import EnvRef
from tdm_agents.errors import WrongValueError
from tdm_agents.training.train_config import TrainConfig

_PRODUCT = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, kw_only=True)
class Reinforce:
    """A policy of Stable-Baselines3 that learns in an environment, with all that it does meanwhile.

    The product's folder is what ``tdm experts train --record`` leaves: ``best.zip``, ``medium.zip``, and the
    data sets ``replay`` and ``medium-replay``. Such a training cannot go on in the middle.

    Attributes:
        name: Name of the product.
        env: Where it learns.
        algorithm: ``"ppo"`` or ``"sac"``.
        steps: Environment steps.
        evaluate_every: Environment steps between evaluations.
        settings: Arguments of the algorithm.
        seed: Seed of everything.
    """

    name: str
    env: EnvRef
    algorithm: Literal["ppo", "sac"]
    steps: int
    evaluate_every: int = 5_000
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        check_name("name of a stage", self.name)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the products that it reads."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Collect:
    """Episodes of one or more environments.

    Attributes:
        name: Name of the product.
        datasets: What to collect, as :func:`tdm_agents.collection.collecting.collect` takes it. In the lines
            of actors, ``{NAME}`` stands for the folder of the product of that name.
    """

    name: str
    datasets: tuple[DatasetSpec, ...]

    def __post_init__(self) -> None:
        check_name("name of a stage", self.name)
        if not self.datasets:
            raise WrongValueError(f"{self.name} collects nothing; expected at least one data set")

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the products that it reads."""
        policies = [policy for dataset in self.datasets for policy, _ in dataset.mix]
        return products_in(*(policy.entry for policy in policies if isinstance(policy, ActorPolicy)))

    def filled(self, values: Mapping[str, str]) -> tuple[DatasetSpec, ...]:
        """The data sets with something in the place of each product's name."""
        return tuple(
            replace(
                dataset,
                mix=tuple(
                    (replace(policy, entry=_filled(policy.entry, values)), count)
                    if isinstance(policy, ActorPolicy)
                    else (policy, count)
                    for policy, count in dataset.mix
                ),
            )
            for dataset in self.datasets
        )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A model and how it is trained: the options of ``tdm train`` that decide what comes out.

    Attributes:
        model: Name of the model in the registry.
        preset: Name of the model's preset; None = its first.
        settings: Settings of the model that differ from the preset, by name (``"tokenizer.bins"``).
        action_repeat: Environment steps per decision.
        training: Updates, learning rate, windows, evaluation.
        held_out_fraction: Fraction of the episodes of each environment that is kept for evaluation.
        data_seed: Seed of the choice of those episodes and of the order of the windows.
        known_reward: Whether the agent plans for the task's own reward function, where there is one.
        planner: Planner that ``agent.json`` names, for whoever uses the model by itself; None = the preset's.
    """

    model: str
    preset: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    action_repeat: int
    training: TrainConfig
    held_out_fraction: float = 0.05
    data_seed: int = 0
    known_reward: bool = True
    planner: str | None = None


@dataclass(frozen=True, kw_only=True)
class Train:
    """A model that is trained.

    Attributes:
        name: Name of the product.
        data: Names of the collections to train on, or of policies, with all that they did.
        recipe: The model and its training.
        only: Name of the one data set of the collections to train on, or of that of the policies (``replay``
            or ``medium-replay``); None = all of the collections.
        init_from: Name of the trained model to start from; None = from scratch.
    """

    name: str
    data: tuple[str, ...]
    recipe: Recipe
    only: str | None = None
    init_from: str | None = None

    def __post_init__(self) -> None:
        check_name("name of a stage", self.name)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the products that it reads."""
        return self.data if self.init_from is None else (*self.data, self.init_from)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The conditions that all contestants of a study share, fixed before anybody plays.

    Attributes:
        episodes: Episodes in each environment, on the seeds from ``first_seed`` on.
        first_seed: Seed of the first reset. All seeds are of the range that no collection and no tuning uses
            (:mod:`tdm_agents.collection.seeds`).
        seed: Seed of the contestants' own draws.
        batch: Episodes that are planned for together.
        max_steps: Environment steps after which an episode is cut.

    Raises:
        ValueError: If there is no episode, or a seed is outside that range.
    """

    episodes: int
    first_seed: int = EVALUATION_FIRST
    seed: int = 0
    batch: int = 5
    max_steps: int | None = None

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.batch < 1:
            raise WrongValueError(f"{self}: expected at least one episode and a batch of at least 1")
        if not EVALUATION_FIRST <= self.first_seed <= self.seeds[-1] <= EVALUATION_LAST:
            raise WrongValueError(
                f"evaluation seeds {self.first_seed} to {self.seeds[-1]}; expected {EVALUATION_FIRST} to "
                f"{EVALUATION_LAST}, which are apart from those of collections and of tuning"
            )

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the environments' resets."""
        return tuple(range(self.first_seed, self.first_seed + self.episodes))


Role = Literal["random", "simulator", "planned", "other"]
"""What a contestant is: random actions, the 0 of the scale; a planner on the true dynamics, its 1; a planner
on a learned model, which has a planning gap; or whatever has none, such as a policy."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """A contestant in some environments.

    Attributes:
        name: Name of the product.
        label: The contestant's name in figures; those of one label belong to one line or bar.
        line: Who plays, as an entry of ``tdm compare`` (:mod:`tdm_agents.actors.entries`), in which
            ``{NAME}`` stands for the folder of the product of that name.
        envs: Where.
        protocol: Seeds and length of the episodes.
        role: See :data:`Role`.
        reference: Name of the evaluation of the same planner on the true dynamics, in the same environments
            and on the same seeds: the 1 of this contestant's scale. None = no scale.
        x: Position on the horizontal axis where the figure has one.
        panel: The panel of a figure of curves; "" = one per environment.
    """

    name: str
    label: str
    line: str
    envs: tuple[EnvRef, ...]
    protocol: Protocol
    role: Role = "planned"
    reference: str | None = None
    x: float | None = None
    panel: str = ""

    def __post_init__(self) -> None:
        check_name("name of a stage", self.name)
        if not self.envs:
            raise WrongValueError(f"{self.name} plays nowhere; expected at least one environment")

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the products that it reads."""
        return products_in(self.line)

    def filled(self, values: Mapping[str, str]) -> str:
        """The line with something in the place of each product's name."""
        return _filled(self.line, values)


Stage = Reinforce | Collect | Train | Evaluate


def products_in(*lines: str) -> tuple[str, ...]:
    """Names of the products for which ``{NAME}`` stands in lines."""
    return tuple(dict.fromkeys(name for line in lines for name in _PRODUCT.findall(line)))


def _filled(line: str, values: Mapping[str, str]) -> str:
    return _PRODUCT.sub(lambda found: values[found[1]], line)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What is drawn of the evaluations.

    Attributes:
        title: Title.
        kind: ``"bars"``: normalised returns over all tasks, one bar per contestant. ``"curves"``: returns
            over :attr:`Evaluate.x`, in panels. ``"successes"``: returns are 0 or 1, and their means are
            drawn, one panel per task.
        one: What the 1 of normalised returns is.
        x_label: Label of the horizontal axis of curves.
        logarithmic: Whether that axis is.
    """

    title: str
    kind: Literal["bars", "curves", "successes"] = "bars"
    one: str = "the same planner on the true dynamics"
    x_label: str = ""
    logarithmic: bool = False


Size = Literal["smoke", "small", "paper"]
"""``smoke``: a minute, to see that everything runs; what comes out means nothing. ``small``: hours on two
cores. ``paper``: the paper's sizes, for GPUs."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study at one size.

    Attributes:
        stages: The stages, each after those that it needs.
        figure: What is drawn at the end.

    Raises:
        ValueError: If two stages have one name, one needs a product that none before it makes, or one is
            compared with what was played elsewhere or on other seeds.
    """

    stages: tuple[Stage, ...]
    figure: Figure

    def __post_init__(self) -> None:
        made: dict[str, Stage] = {}
        for stage in self.stages:
            if stage.name in made:
                raise WrongValueError(f"two stages are called {stage.name!r}; give each a name of its own")
            if missing := [name for name in stage.needs if name not in made]:
                raise WrongValueError(f"{stage.name} needs {missing[0]!r}, which no stage before it makes")
            if isinstance(stage, Train):
                _check_data(stage, made)
            made[stage.name] = stage
            if isinstance(stage, Evaluate) and stage.reference is not None:
                _check_reference(stage, made.get(stage.reference))


def _check_data(stage: Train, made: Mapping[str, Stage]) -> None:
    """Refuse a training on policies that does not say which of their data it reads."""
    for name in stage.data:
        if isinstance(made[name], Reinforce) and stage.only not in ("replay", "medium-replay"):
            raise WrongValueError(
                f"{stage.name} reads {stage.only!r} of the policies {name}; expected replay or medium-replay"
            )


def _check_reference(stage: Evaluate, reference: Stage | None) -> None:
    """Refuse a reference in other environments or on other seeds; the true dynamics are their own."""
    if (
        not isinstance(reference, Evaluate)
        or reference.protocol != stage.protocol
        or not set(stage.envs) <= set(reference.envs)
    ):
        raise WrongValueError(
            f"{stage.name} is compared with {stage.reference!r}; expected an evaluation before it, in the "
            "same environments and by the same protocol"
        )


@dataclass(frozen=True, kw_only=True)
class Study:
    """An experiment of the paper.

    Attributes:
        name: Name on the command line.
        paper: The paper's figures and sections.
        question: What it asks, in a line.
        plan: Its stages, by size.
    """

    name: str
    paper: str
    question: str
    plan: Callable[[Size], Plan]
