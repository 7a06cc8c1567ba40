"""Tasks of dm_control's suite, and those that a generalist learns from: the paper's 28, as we read it.

Schubert et al. 2023 (arXiv:2305.10912) train a generalist on 28 environments of the control suite that leave
cartpole out, fine-tune it on cartpole, and compare generalists that did and did not see the double and triple
cartpole. We had to choose the list itself:

- the 24 tasks of dm_control's own benchmark (``suite.BENCHMARKING``) that are not cartpole, and
- the 4 further tasks that have other dynamics than these and that models and planners can read.

:func:`left_out_because` has the reason for every other task of the suite.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import gymnasium as gym


class TaskName(NamedTuple):
    """A task of the suite: ``gym.make("tdm_envs:tdm/Suite-v0", **name._asdict())``."""

    domain: str
    task: str

    @property
    def shimmy_id(self) -> str:
        """Shimmy's Gymnasium id of the task, which is also the name of its reward function."""
        return f"dm_control/{self.domain}-{self.task}-v0"


_BENCHMARK = (
    TaskName("acrobot", "swingup"),
    TaskName("acrobot", "swingup_sparse"),
    TaskName("ball_in_cup", "catch"),
    TaskName("cheetah", "run"),
    TaskName("finger", "spin"),
    TaskName("finger", "turn_easy"),
    TaskName("finger", "turn_hard"),
    TaskName("fish", "swim"),
    TaskName("fish", "upright"),
    TaskName("hopper", "hop"),
    TaskName("hopper", "stand"),
    TaskName("humanoid", "run"),
    TaskName("humanoid", "stand"),
    TaskName("humanoid", "walk"),
    TaskName("manipulator", "bring_ball"),
    TaskName("pendulum", "swingup"),
    TaskName("point_mass", "easy"),
    TaskName("reacher", "easy"),
    TaskName("reacher", "hard"),
    TaskName("swimmer", "swimmer15"),
    TaskName("swimmer", "swimmer6"),
    TaskName("walker", "run"),
    TaskName("walker", "stand"),
    TaskName("walker", "walk"),
)
_FURTHER = (
    # a peg instead of a ball: another object, which has an orientation
    TaskName("manipulator", "bring_peg"),
    # each episode draws the pull of the two motors: dynamics that only the history shows
    TaskName("point_mass", "hard"),
    # four legs, and servos with bounds other than -1 and 1
    TaskName("quadruped", "run"),
    TaskName("quadruped", "walk"),
)

GENERALIST: Final = tuple(sorted(_BENCHMARK + _FURTHER))
"""The 28 tasks, none of them a cartpole."""

GENERALIST_WITH_POLES: Final = (
    *GENERALIST,
    TaskName("cartpole", "two_poles"),
    TaskName("cartpole", "three_poles"),
)
"""The same tasks, and the double and triple cartpole: relatives of the target, which is left out."""

TARGETS: Final = (
    TaskName("cartpole", "balance"),
    TaskName("cartpole", "balance_sparse"),
    TaskName("cartpole", "swingup"),
    TaskName("cartpole", "swingup_sparse"),
)
"""The tasks that a generalist has never seen and is fine-tuned on."""

_LONG_STEP = "a step takes so many tokens (263 dog, 195 humanoid_CMU) that a band of 1023 holds 3 to 5"
_SAME_BODY = "body, object and observation are those of a task in the list; only its goal differs"
_LEFT_OUT_DOMAINS = {
    "dog": _LONG_STEP,
    "humanoid_CMU": _LONG_STEP,
    "lqr": "its controls have no bounds, so there is nothing to scale actions to",
    "stacker": "the manipulator's arm again, with boxes and rewards that are almost always 0",
}
_LEFT_OUT_TASKS = {
    TaskName("humanoid", "run_pure_state"): "the same body and task as humanoid run, observed otherwise",
    TaskName("manipulator", "insert_ball"): _SAME_BODY,
    TaskName("manipulator", "insert_peg"): _SAME_BODY,
    TaskName("quadruped", "escape"): "its reset opens a renderer, and what it observes is range sensors",
    TaskName("quadruped", "fetch"): "the quadruped with a ball; walk and run have the body",
}


def left_out_because(name: TaskName) -> str | None:
    """The reason why a task of the suite is neither learnt from nor a target; None where it is one."""
    return _LEFT_OUT_TASKS.get(name) or _LEFT_OUT_DOMAINS.get(name.domain)


def task_id(env: gym.Env[Any, Any]) -> str | None:
    """The Gymnasium id that names an environment's task; None where it was made without one.

    ``tdm/Suite-v0`` alone does not name it: its tasks have Shimmy's ids, whatever the variant.
    """
    spec = env.spec
    if spec is None or spec.id != "tdm/Suite-v0":
        return None if spec is None else spec.id
    return TaskName(spec.kwargs["domain"], spec.kwargs["task"]).shimmy_id
