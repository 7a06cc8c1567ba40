"""The same weights as policy, as dynamics model, and as both (figure 5)."""

from __future__ import annotations

from typing import Any

from tdm_agents.studies.entry_text import in_a_line
from tdm_agents.studies.specialist import SIZES, data_of, tdm_of
from tdm_agents.studies.stages import Evaluate, Figure, Plan, Size, Stage, Study


def _plan(size: Size) -> Plan:
    of = SIZES[size]
    stages: list[Stage] = []
    for task in of.tasks:
        everywhere: dict[str, Any] = {"envs": (task.env,), "protocol": of.protocol}
        scaled: dict[str, Any] = {**everywhere, "reference": f"{task.name}-simulator"}
        horizon = task.horizons[-1]
        proposals = {"planner": "proposal_shooting", "num_samples": task.candidates, "horizon": horizon}
        tdm = f"{{{task.name}-tdm}} reward_function={task.env.id}"
        stages += [
            data_of(task, of),
            tdm_of(task, of),
            Evaluate(
                name=f"{task.name}-random",
                label="random actions",
                line="random",
                role="random",
                **everywhere,
            ),
            Evaluate(
                name=f"{task.name}-simulator",
                label="true dynamics, random shooting",
                line=f"simulator action_repeat={task.repeat} {task.shooting(horizon)}",
                role="simulator",
                **scaled,
            ),
            Evaluate(
                name=f"{task.name}-policy",
                label="policy alone",
                line=f"{tdm} planner=policy",
                role="other",
                **scaled,
            ),
            Evaluate(
                name=f"{task.name}-model",
                label="model alone: random shooting",
                line=f"{tdm} {task.shooting(horizon)}",
                **scaled,
            ),
            Evaluate(
                name=f"{task.name}-both",
                label="both: shooting around the policy",
                line=f"{tdm} {in_a_line(proposals)}",
                role="other",  # the true dynamics have no proposal, so that there is no gap to them
                **scaled,
            ),
        ]
    return Plan(
        stages=tuple(stages), figure=Figure(title="The same weights as policy, as model, and as both")
    )


STUDY = Study(
    name="proposal",
    paper="figure 5",
    question="Is planning better with the proposals of the same weights, and better than these alone?",
    plan=_plan,
)
