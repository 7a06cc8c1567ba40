"""Entries: actors in one line of text.

::

    cartpole-swingup                                    a bundled checkpoint, or the folder of one
    runs/mlp planner=cem num_samples=64 label="MLP"     with another planner, settings, and a name
    simulator like=cartpole-swingup                     the true dynamics, with that checkpoint's planner
    simulator planner=mppi horizon=25 action_repeat=4
    expert                                              tuned for the environment (`tdm experts list`)
    runs/hopper alive=false                             planning as if no episode ended
    runs/walkers unseen=true                            a generalist, in an environment it was not trained on
    runs/walkers planner=policy prompt=runs/experts     continuing the best episode of a data set
    models/sac.zip action_repeat=4                      what Stable-Baselines3 saved
    simulator planner=cem num_policy=4 proposal=runs/student    with a student's actions among the candidates
    runs/model value=runs/iql discount=0.99             what comes after the horizon is worth what IQL says
    runs/model value=runs/iql support=runs/data/data    keeping plans near recorded observations
    random                                              uniform actions
    waypoints                                           a controller that knows the way through a maze
    waypoints wander=true                               the same, to random places instead of the goal

An environment is written in the same way: ``dm_control/cartpole-swingup-v0``, ``tdm/WalkerTree-v0 dof=12
body=3``. ``{env}`` in a path stands for the environment's id with ``-`` for ``/`` and ``:``, so that each of
several environments can have a file of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tdm_agents.environments import EnvRef
from tdm_agents.errors import WrongValueError
from tdm_agents.settings_text import parse_settings, split_line

Kind = Literal["checkpoint", "simulator", "policy", "random", "waypoints"]

OPTIONS: dict[Kind, tuple[str, ...]] = {
    "checkpoint": (
        "planner",
        "replan_every",
        "deadline",
        "reward_function",
        "alive",
        "unseen",
        "prompt",
        "proposal",
        "value",
        "support",
        "support_penalty",
    ),
    "simulator": (
        "like",
        "planner",
        "replan_every",
        "deadline",
        "action_repeat",
        "reward_function",
        "proposal",
        "value",
    ),
    "policy": ("deterministic", "action_repeat", "vec_normalize"),
    "random": (),
    "waypoints": ("wander",),
}
"""Options of each kind of entry; all others are settings of the planner, where there is one."""
EXPERT = "expert"
"""The word for the environment's expert, in place of a planner's name or of an entry."""
PLANS: tuple[Kind, ...] = ("checkpoint", "simulator")


@dataclass(frozen=True, slots=True)
class Entry:
    """An actor by its line of text.

    Attributes:
        kind: A checkpoint's model or the true dynamics, with a planner; a policy of Stable-Baselines3; random
            actions; or a controller of mazes.
        source: The checkpoint's name or folder, or the policy's zip; empty otherwise.
        options: Options of :data:`OPTIONS`, and settings of the planner; None counts as not given.
        label: The name in reports.

    Raises:
        ValueError: If there is no such option, or a simulator has no planner.
    """

    kind: Kind
    source: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", {k: v for k, v in self.options.items() if v is not None})
        known = OPTIONS[self.kind]
        unknown = sorted(set(self.options) - set(known))
        if unknown and self.kind not in PLANS:
            raise WrongValueError(
                f"entry {self.label or self.kind!r} has no option {unknown[0]!r}; a {self.kind} takes "
                f"{', '.join((*known, 'label'))}"
            )
        learned = sorted(({*OPTIONS["checkpoint"]} - {*known}) & {*self.options})
        if self.kind == "simulator" and learned:
            raise WrongValueError(
                f"entry {self.label or self.kind!r} has {learned[0]}=, which is for learned models; "
                "leave it out"
            )
        if self.kind == "simulator" and not ("planner" in self.options or "like" in self.options):
            raise WrongValueError(
                "a simulator needs a planner: planner=NAME (see `tdm planners`), planner=expert (see `tdm "
                "experts list`), or like=CHECKPOINT for the planner, settings, reward function and time step "
                "of a checkpoint"
            )

    @property
    def planner_settings(self) -> dict[str, Any]:
        """The options that are settings of the planner."""
        return {k: v for k, v in self.options.items() if k not in OPTIONS[self.kind]}

    def in_environment(self, env: EnvRef) -> Entry:
        """The entry with ``{env}`` filled in."""
        name = env.made_by.replace("/", "-").replace(":", "-")
        options = {k: v.replace("{env}", name) if isinstance(v, str) else v for k, v in self.options.items()}
        return replace(self, source=self.source.replace("{env}", name), options=options)


def planning_for(entry: Entry, reward: str | None) -> Entry:
    """The entry that plans for a reward, where it plans and names none itself."""
    if reward is None or entry.kind not in PLANS or "reward_function" in entry.options:
        return entry
    return replace(entry, options={**entry.options, "reward_function": reward})


def parse_entry(text: str) -> Entry:
    """The entry of a line; without ``label=`` the line itself is the label.

    Raises:
        ValueError: If the line cannot be read, or an option does not exist.
    """
    source, options = split_line(
        text, "who plays: a checkpoint, a .zip of Stable-Baselines3, simulator, expert, random, or waypoints"
    )
    label = options.pop("label", text)
    if source == "simulator":
        return Entry("simulator", "", parse_settings(options), label)
    if source == EXPERT:  # short for simulator planner=expert
        return Entry("simulator", "", {"planner": EXPERT, **parse_settings(options)}, label)
    if source == "random":
        return Entry("random", "", parse_settings(options), label)
    if source == "waypoints":
        return Entry("waypoints", "", parse_settings(options), label)
    kind: Kind = "policy" if source.endswith(".zip") else "checkpoint"
    return Entry(kind, source, parse_settings(options), label)
