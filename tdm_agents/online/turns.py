"""The environments of an online run, in which it plays in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tdm_agents.data.mixture import check_shares
from tdm_agents.env_checks import refuse_shared
from tdm_agents.environments import Env, EnvRef
from tdm_agents.online import acting
from tdm_agents.online.online_config import OnlineConfig
from tdm_agents.protocols import ModelSpec, TrainableModel


@dataclass(frozen=True, slots=True)
class Task:
    """An environment of a run.

    Attributes:
        env: The environment.
        envs: Those that are played side by side.
        spec: Of its world model.
        most: Environment steps after which an episode ends at the latest.
        share: Share of the run's decisions, and of the windows that are learned from.
    """

    env: EnvRef
    envs: list[Env]
    spec: ModelSpec
    most: int
    share: float

    @property
    def name(self) -> str:
        """Its name."""
        return self.env.name

    @property
    def longest(self) -> int:
        """Decisions of the longest episode there may be."""
        return -(-self.most // self.spec.action_repeat)


def open_tasks(
    refs: Sequence[EnvRef],
    model: TrainableModel,
    config: OnlineConfig,
    weights: Mapping[str, float],
    stack: ExitStack,
) -> list[Task]:
    """Make the environments of a run.

    Args:
        refs: The environments.
        model: The model of all of them.
        config: Settings of the run.
        weights: Share of each in proportion to the others, by name; all are equal where there are none.
        stack: Closes them.

    Raises:
        ValueError: If an environment cannot be made several times, or ``weights`` make no sense.
    """
    portions = check_shares(weights or dict.fromkeys((ref.name for ref in refs), 1.0), [r.name for r in refs])
    tasks = []
    for ref in refs:
        envs: list[Env] = []
        for _ in range(config.envs):
            envs.append(ref.make())
            stack.callback(envs[-1].close)
        refuse_shared(envs)
        spec = model.environment(ref.name).spec
        most = acting.longest_episode(envs[0], config)
        tasks.append(Task(ref, envs, spec, most, portions[ref.name]))
    return tasks


def next_task(tasks: Sequence[Task], decisions: Mapping[str, int]) -> Task:
    """The task that has had the least of its share.

    Args:
        tasks: The tasks.
        decisions: How many each has had, by name; none where it has no entry.
    """
    return min(tasks, key=lambda task: decisions.get(task.name, 0) / task.share)
