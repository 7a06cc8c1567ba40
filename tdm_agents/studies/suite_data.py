"""Tasks of dm_control's suite as studies use them: what is collected, and what plans there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tdm_agents.actors.behaviour import BehaviourPolicy, PlannerPolicy, RandomPolicy
from tdm_agents.actors.tuned import expert_for
from tdm_agents.collection.collection_manifest import default_name
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.environments import EnvRef
from tdm_agents.studies.entry_text import in_a_line
from tdm_envs.suite_tasks import TaskName


@dataclass(frozen=True, kw_only=True)
class SuiteTask:
    """A task, and how it is planned for.

    Attributes:
        name: Domain and task, such as ``walker-stand``.
        repeat: Environment steps per decision.
        candidates: Candidates of the paper's random shooting.
        horizons: Decisions imagined ahead; the last is the longest.
        tuned: Settings of MPPI other than those of the task's expert.
        collector: Settings of the MPPI that collects, on the true dynamics; None = the task's expert.
        recorded_steps: Environment steps after which episodes of data are cut; None = those of the study.
        windows: Windows per update of models of tokens; None = those of the recipe.
    """

    name: str
    repeat: int
    candidates: int
    horizons: tuple[int, ...]
    tuned: Mapping[str, Any] = field(default_factory=dict)
    collector: Mapping[str, Any] | None = None
    recorded_steps: int | None = None
    windows: int | None = None

    @property
    def env(self) -> EnvRef:
        """The environment; its id is also the name of its reward function."""
        return EnvRef(f"dm_control/{self.name}-v0")

    def shooting(self, horizon: int) -> str:
        """The paper's planner: random shooting with Brownian noise."""
        return in_a_line({"planner": "random_shooting", "num_samples": self.candidates, "horizon": horizon})

    def mppi(self, horizon: int) -> str:
        """The planner that is tuned for the task, with another horizon and :attr:`tuned`."""
        settings = {**expert_for(self.env).settings, **self.tuned, "horizon": horizon}
        if settings.get("noise_knots") is not None:
            settings["noise_knots"] = min(int(settings["noise_knots"]), horizon)
        return in_a_line({"planner": "mppi", **settings})


def half_planned(
    task: SuiteTask, *, random: int, planned: int, of: str | None = None, seed: int = 0, max_steps: int
) -> DatasetSpec:
    """Episodes of random actions and of the task's planner on the true dynamics, disturbed.

    Args:
        task: The task.
        random: Number of episodes with random actions.
        planned: Number of episodes of the planner.
        of: Another task of the same body, such as ``walker-walk``, that is played instead.
        seed: Seed of the collection.
        max_steps: Environment steps per episode, unless the task has fewer.
    """
    planner = expert_for(task.env).make_policy()
    if task.collector is not None:
        planner = PlannerPolicy("mppi", task.collector)
    policies: tuple[tuple[BehaviourPolicy, int], ...] = ((RandomPolicy(), random), (planner, planned))
    env = task.env if of is None else EnvRef(f"dm_control/{of}-v0")
    return DatasetSpec(
        env=env,
        mix=tuple((policy, count) for policy, count in policies if count),
        action_repeat=task.repeat,
        seed=seed,
        max_steps=max_steps if task.recorded_steps is None else min(max_steps, task.recorded_steps),
    )


def of_many_tasks(
    tasks: tuple[TaskName, ...],
    *,
    random: int,
    planned: int,
    planner: Mapping[str, Any],
    repeat: int,
    max_steps: int,
) -> tuple[DatasetSpec, ...]:
    """Episodes of random actions and of one MPPI for all, disturbed, in each of several tasks."""
    envs = [EnvRef("tdm/Suite-v0", dict(task._asdict()), module="tdm_envs") for task in tasks]
    return tuple(
        DatasetSpec(
            name=default_name(env).replace('"', ""),
            env=env,
            mix=((RandomPolicy(), random), (PlannerPolicy("mppi", planner), planned)),
            action_repeat=repeat,
            max_steps=max_steps,
        )
        for env in envs
    )
