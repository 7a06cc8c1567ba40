"""What passes between the process that plans and the one that shows: values, never live objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PlanSeen:
    """A plan, and what the planner considered for it.

    The chosen sequence comes first in everything that has a row per future; ``S`` candidates follow, evenly
    spaced from the best to the worst of the last iteration.

    Attributes:
        number: Counts the plans of an episode, from 1.
        actions: ``[1 + S, H, m]``, in the environment's units.
        values: ``[1 + S]``, what the planner believes each is worth.
        observation: ``[1 + S, H, n]``, what the model imagined; None where it imagines none or the planner
            keeps none. NaN in the first row where the chosen sequence itself was not imagined.
        considered: ``[K]`` values of all finite candidates, per iteration.
        physics: ``[nstate]``, MuJoCo's state in which it was made; None without MuJoCo.
        warmstart: ``[nv]`` of the solver, with it.
        true: Whether the model is the true dynamics, whose futures the physics can show again.
        milliseconds: Wall-clock time of the plan.
    """

    number: int
    actions: FloatArray
    values: FloatArray
    observation: FloatArray | None
    considered: tuple[FloatArray, ...]
    physics: Array | None
    warmstart: Array | None
    true: bool
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Setup:
    """What changes seldom: the environment and who plays in it.

    Attributes:
        environment: The environment's text.
        seconds_per_step: Of an environment step; NaN where the environment does not say.
        action_repeat: Environment steps per decision.
        observation_names: One per scalar.
        sub_steps: Physics steps per environment step.
        weight: Weight of the whole body in newtons, by which pushes are measured; 0 without MuJoCo.
        player: Who plays, in words.
        entry: Index of the player among the entries.
        planner: The planner; None for a policy or random actions.
        rewards: Names of the rewards that can be planned for.
        reward: The one that is planned for.
        serial: Number of commands that were obeyed or refused before.
    """

    environment: str
    seconds_per_step: float
    action_repeat: int
    observation_names: tuple[str, ...]
    sub_steps: int
    weight: float
    player: str
    entry: int
    planner: Any
    rewards: tuple[str, ...]
    reward: str
    serial: int = 0


@dataclass(frozen=True, slots=True)
class Body:
    """The body to draw, again wherever an episode changed it.

    Attributes:
        model: The pickled ``mujoco.MjModel``; None without MuJoCo.
    """

    model: bytes | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An episode at one of its steps.

    Attributes:
        episode: Counts the episodes, from 0.
        seed: Seed of the episode.
        step: Environment steps so far.
        score: Return so far.
        reward: Reward of the last step.
        observation: ``[n]`` float32.
        physics: ``[nstate]``, MuJoCo's state; None without MuJoCo.
        plan: The newest plan; None before the first, and for those who do not plan.
        frame: ``[height, width, 3]``, a picture where there is no body to draw.
        running: False while paused.
        last_score: Return of the last finished episode; None before the first has ended.
        problem: Why something was refused or failed, or "".
    """

    episode: int
    seed: int
    step: int
    score: float
    reward: float
    observation: FloatArray
    physics: Array | None = None
    plan: PlanSeen | None = None
    frame: npt.NDArray[np.uint8] | None = None
    running: bool = True
    last_score: float | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A wish of a viewer.

    Attributes:
        what: ``"run"``, ``"pause"``, ``"step"``, ``"reset"``, ``"planner"``, ``"entry"``, ``"reward"``,
            ``"push"``, ``"pull"``, ``"speed"``, ``"shown"`` or ``"close"``.
        settings: Arguments by name.
    """

    what: str
    settings: Mapping[str, Any] = field(default_factory=dict)
