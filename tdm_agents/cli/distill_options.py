"""The options of ``tdm distill``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from tdm_agents.cli.imports import Modules
from tdm_agents.distillation.distill_config import DistillConfig


@dataclass(frozen=True)
class Distill:
    """Train a small fast model on what a slow agent decides and imagines. The same command goes on.

    Attributes:
        teacher: Who decides, as an entry of ``tdm compare``: a checkpoint with settings of its planner
            (``"cartpole-swingup num_samples=64"``), ``expert``, ``"simulator planner=mppi"``, or an SB3
            policy's zip.
        out: Folder of the run: the student's agent, ``distill.json``, a checkpoint, TensorBoard events.
        env_id: The environment, with its arguments if it takes some; the teacher's own by default.
        student: Kind of model: ``mlp_policy`` imagines and has a policy; ``mlp`` and ``pets`` imagine alone.
        preset: One of the student's named configurations.
        model_settings: Settings of the student that differ from the preset, as pairs of name and value.
        action_repeat: Environment steps per decision; the teacher's by default.
        planner: How the student acts; the preset's by default: ``policy``, or ``mppi`` with its dynamics.
        planner_settings: The planner's settings that differ from the preset's (or, for another planner, from
            its defaults), as pairs of name and value.
        report_episodes: Episodes that teacher and student play at the end, on the same seeds; 0: none.
        device: Where to train and to plan.
        training: Rounds, episodes, imagination, updates.
    """

    teacher: str
    out: Path
    env_id: str | None = None
    student: str = "mlp_policy"
    preset: str | None = None
    model_settings: dict[str, str] = field(default_factory=dict)
    action_repeat: int | None = None
    planner: str | None = None
    planner_settings: dict[str, str] = field(default_factory=dict)
    report_episodes: int = 3
    device: str = "cpu"
    training: Annotated[DistillConfig, tyro.conf.arg(name="")] = field(default_factory=DistillConfig)
    import_: Modules = ()
