"""What matters in planning with a TDM (figures 8 to 10, appendices B to D): noise, context, rewards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tdm_agents.studies.entry_text import in_a_line
from tdm_agents.studies.specialist import SIZES, data_of, tdm_of, tdm_recipe
from tdm_agents.studies.stages import Evaluate, Figure, Plan, Size, Stage, Study, Train
from tdm_agents.studies.suite_data import SuiteTask
from tdm_envs.rewards import reward_sizes

NOISES: Mapping[str, Mapping[str, Any]] = {
    "white": {"noise_beta": 0.0, "noise_scale": 1.0},
    "pink": {"noise_beta": 1.0, "noise_scale": 1.0},
    "red": {"noise_beta": 2.0, "noise_scale": 1.0},
}
"""Noises of random shooting besides the paper's walk, by label."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A contestant, and the planner that it shares with the true dynamics of its scale."""

    label: str
    who: str
    planner: str
    rewards: str = "known"


def _plan(size: Size) -> Plan:
    of = SIZES[size]
    # about the paper's contexts, in decisions with the present one: no model has fewer than two
    contexts = {"smoke": (2, 3), "small": (2, 4, 8), "paper": (2, 5, 20)}[size]
    stages: list[Stage] = []
    for task in of.tasks[:2]:  # a cartpole and a walker
        stages += [data_of(task, of), tdm_of(task, of)]
        tdm = f"{{{task.name}-tdm}}"
        horizon = task.horizons[-1]
        walk, mppi = task.shooting(horizon), task.mppi(horizon)
        lines = [_Line("noise: Brownian walk (the paper's)", tdm, walk)]
        lines += [
            _Line(f"noise: {label}", tdm, f"{walk} {in_a_line(settings)}")
            for label, settings in NOISES.items()
        ]
        for decisions in contexts:
            name = f"{task.name}-context-{decisions}"
            settings = {"context": decisions * _tokens(task)}
            stages.append(
                Train(name=name, data=(f"{task.name}-data",), recipe=tdm_recipe(task, of, settings))
            )
            lines.append(_Line(f"context: {decisions} decisions", f"{{{name}}}", mppi))
        lines += [
            _Line("rewards: the task's own function", tdm, mppi),
            _Line("rewards: predicted", tdm, mppi, rewards="predicted"),
        ]
        stages += _played(task, lines, {"envs": (task.env,), "protocol": of.protocol})
    return Plan(stages=tuple(stages), figure=Figure(title="Noise, context and rewards"))


def _tokens(task: SuiteTask) -> int:
    """Tokens per decision."""
    observation, action = reward_sizes(task.env.id)
    return observation + action + 2


def _played(task: SuiteTask, lines: list[_Line], everywhere: Mapping[str, Any]) -> list[Stage]:
    """The contestants of a task, and the true dynamics with each of their planners."""
    found: list[Stage] = [
        Evaluate(
            name=f"{task.name}-random", label="random actions", line="random", role="random", **everywhere
        )
    ]
    references: dict[str, str] = {}
    for number, line in enumerate(lines):
        if line.planner not in references:
            references[line.planner] = f"{task.name}-simulator-{number}"
            found.append(
                Evaluate(
                    name=references[line.planner],
                    label=f"true dynamics ({line.label})",
                    line=f"simulator action_repeat={task.repeat} {line.planner}",
                    role="simulator",
                    reference=references[line.planner],
                    **everywhere,
                )
            )
        reward = task.env.id if line.rewards == "known" else "predicted"
        found.append(
            Evaluate(
                name=f"{task.name}-{number}",
                label=line.label,
                line=f"{line.who} reward_function={reward} {line.planner}",
                reference=references[line.planner],
                **everywhere,
            )
        )
    return found


STUDY = Study(
    name="ablations",
    paper="figures 8 to 10, appendices B to D",
    question="What do the noise of candidates, the length of the context, and predicted rewards change?",
    plan=_plan,
)
