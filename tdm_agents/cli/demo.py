"""``tdm demo``: one episode with the shipped checkpoint, beside the true simulator and random actions."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdm_agents.cli.checks import at_least, output_folder
from tdm_agents.cli.config_file import keep_config
from tdm_agents.cli.imports import Modules, import_modules
from tdm_agents.errors import WrongValueError

if TYPE_CHECKING:
    from rich.table import Table

    from tdm_agents.agent import TDMAgent
    from tdm_agents.environments import EnvRef
    from tdm_agents.evaluation.imagined import PlanLog
    from tdm_agents.evaluation.records import Episode

SCHEMA = 1


@dataclass(frozen=True)
class Demo:
    """Play one episode with the shipped checkpoint: live progress, a table, a plot and a video."""

    checkpoint: str = "cartpole-swingup"
    """Name of a bundled checkpoint, or a folder."""
    planner: str | None = None
    """Name of a planner (see `tdm planners`); the checkpoint's own if not given."""
    replan_every: int = 2
    """Decisions per plan. With 1 it plans at every decision, as the agent does by default; that takes twice
    as long as 2 and reaches a little more."""
    env_seed: int = 9_999
    """Seed of the episode; collection and tuning use others."""
    seed: int = 0
    """Seed of the players."""
    threads: int | None = None
    """Threads of torch and of the simulator; if not given, a short trial finds the fastest number."""
    max_steps: int | None = None
    """Environment steps after which the episode is cut; the whole episode if not given."""
    video: bool = True
    """Render a video; MUJOCO_GL=disable skips it too."""
    out: Path = Path("runs/demo")
    """Folder of the plot, the video and demo.json."""
    import_: Modules = ()


@dataclass(frozen=True, slots=True)
class Player:
    """One line of the table.

    Attributes:
        name: Who played.
        episode: The episode played.
        tokens: Number of tokens per imagined transition; None where nothing is imagined in tokens.
    """

    name: str
    episode: Episode
    tokens: int | None = None

    @property
    def milliseconds(self) -> float:
        """Milliseconds per decision."""
        return self.episode.milliseconds / max(self.episode.decisions, 1)

    @property
    def transitions(self) -> float:
        """Imagined transitions per decision."""
        return self.episode.transitions / max(self.episode.decisions, 1)

    @property
    def tokens_per_second(self) -> float | None:
        """Imagined tokens per second of planning."""
        if self.tokens is None or not self.episode.milliseconds:
            return None
        return 1e3 * self.tokens * self.episode.transitions / self.episode.milliseconds


def run(arguments: Demo) -> None:
    """Play, print the table, and write the plot, the video and ``demo.json``.

    Raises:
        LookupError: If there is no such checkpoint or planner.
        ValueError: If the checkpoint names no environment, or a setting makes no sense.
    """
    _check(arguments)
    from tdm_agents.evaluation.video import OFF

    environ = dict(os.environ)
    if "MUJOCO_GL" not in os.environ:
        # this process renders nothing, so dm_control must not look for a screen when it is imported
        os.environ["MUJOCO_GL"] = OFF[0]

    import torch
    from rich.console import Console

    from tdm_agents.agent import TDMAgent, agent_files
    from tdm_agents.cli.one_episode import draw, film, logged_moments, planner_text, recording_of
    from tdm_agents.environments import EnvRef, known_seconds
    from tdm_agents.evaluation.fastest_threads import fastest_threads
    from tdm_agents.evaluation.report import write_report
    from tdm_agents.remarks import remark
    from tdm_agents.spaces.scalar_names import labels_of

    began = time.perf_counter()
    import_modules(arguments.import_)
    console = Console()
    agent = TDMAgent.load(
        arguments.checkpoint, arguments.planner, arguments.seed, replan_every=arguments.replan_every
    )
    if agent.env_id is None:
        raise WrongValueError(
            f"checkpoint {arguments.checkpoint!r} names no environment; save the agent with env_id="
        )
    env = EnvRef.parse(agent.env_id, source=str(agent_files.resolve(arguments.checkpoint) / "agent.json"))
    made = env.make()
    observation = agent.observation(made.reset(seed=arguments.env_seed)[0])
    labels = labels_of(made)
    step_seconds = known_seconds(made)
    made.close()
    threads, measured = arguments.threads, ""
    if threads is None:
        threads, tried = fastest_threads(agent, observation)
        each = ", ".join(f"{ms:.1f} ms with {count}" for count, ms in tried.items())
        measured = f" (an imagined step of all candidates takes {each})"
    torch.set_num_threads(threads)
    planner = agent_files.planner_name(agent.planner)
    remark(f"{env}, episode seed {arguments.env_seed}; {_size(agent)} and {planner_text(agent.planner)}")
    remark(f"decisions per plan: {agent.replan_every}")
    remark(f"threads: {threads}{measured}")
    players, log = play(agent, env, arguments, threads)

    first = players[0].episode
    console.print(_table(players, f"one episode, {first.length} environment steps"))
    recording = recording_of(first)
    draw(
        arguments.out / "demo.png",
        env,
        agent.planner,
        logged_moments(log, recording),
        recording,
        {p.name: recording_of(p.episode).reward for p in players},
        labels=labels,
        seconds_per_step=step_seconds,
        action_repeat=agent.model.spec.action_repeat,
    )
    print(f"plot: {arguments.out / 'demo.png'}")
    if arguments.video:
        film(arguments.out / "demo.mp4", env, first, environ)
    seconds = time.perf_counter() - began
    report = _report(arguments, agent, planner, threads, players, seconds)
    write_report(arguments.out / "demo.json", report)
    keep_config(arguments, "demo", arguments.out)
    print(f"settings, seeds and machine: {arguments.out / 'demo.json'}; {seconds:.0f} s in all")


def play(agent: TDMAgent, env: EnvRef, arguments: Demo, threads: int) -> tuple[list[Player], PlanLog]:
    """Play the agent, the same planner on the true simulator, and random actions, all on the same episode.

    Returns:
        The players in that order, and the agent's plans, one per decision.
    """
    from tdm_agents.actors.agents import AgentFactory
    from tdm_agents.actors.contestant import Contestant
    from tdm_agents.actors.functions import UniformActions
    from tdm_agents.actors.simulators import true_dynamics
    from tdm_agents.cli.one_episode import play_episode
    from tdm_agents.evaluation.imagined import PlanLog

    spec, log = agent.model.spec, PlanLog(agent)

    def one(name: str, contestant: Contestant, tokens: int | None = None) -> Player:
        evaluation = play_episode(
            name,
            contestant,
            env,
            arguments.env_seed,
            seed=arguments.seed,
            max_steps=arguments.max_steps,
            log=log if contestant is agent else None,
        )
        return Player(name, evaluation.episodes[0], tokens)

    simulator = true_dynamics(action_repeat=spec.action_repeat, threads=threads)
    tokens = getattr(agent.base_model, "step_tokens", None)  # where a model's imagination is tokens
    return [
        one("TDM agent", agent, tokens),
        one(
            "true simulator",
            AgentFactory(simulator, agent.planner, agent.reward_function, agent.replan_every),
        ),
        one("random policy", UniformActions(spec.action_space, arguments.seed)),
    ], log


def _check(arguments: Demo) -> None:
    at_least(
        1,
        threads=arguments.threads,
        max_steps=arguments.max_steps,
        replan_every=arguments.replan_every,
    )
    output_folder(arguments.out)


def _size(agent: TDMAgent) -> str:
    name = type(agent.base_model).__name__
    parameters = getattr(agent.base_model, "parameters", None)
    if parameters is None:
        return name
    return f"{name} with {sum(p.numel() for p in parameters()):,} parameters"


def _table(players: Sequence[Player], title: str) -> Table:
    from rich.table import Table

    shown = Table(title=title)
    shown.add_column("")
    for column in (
        "return",
        "ms per\ndecision",
        "imagined\ntransitions\nper decision",
        "imagined\ntokens\nper second",
    ):
        shown.add_column(column, justify="right")
    for player in players:
        thinks, tokens = player.transitions > 0, player.tokens_per_second
        shown.add_row(
            player.name,
            f"{player.episode.score:.1f}",
            f"{player.milliseconds:.0f}" if thinks else "-",
            f"{player.transitions:,.0f}" if thinks else "-",
            "-" if tokens is None else f"{tokens:,.0f}",
        )
    return shown


def _report(
    arguments: Demo, agent: TDMAgent, planner: str, threads: int, players: Sequence[Player], seconds: float
) -> dict[str, Any]:
    """The settings that repeat this demo, and its results."""
    from tdm_agents.agent import agent_files
    from tdm_agents.evaluation.report import provenance

    weights = agent_files.resolve(arguments.checkpoint) / "weights.safetensors"
    return {
        "schema": SCHEMA,
        "kind": "demo",
        "env_id": agent.env_id,
        "settings": {
            "checkpoint": arguments.checkpoint,
            "model": type(agent.base_model).__name__,
            "planner": planner,
            "planner_settings": agent_files.settings_of(agent.planner, None, None).planner_settings,
            "replan_every": agent.replan_every,
            "reward_function": agent.reward_function,
            "action_repeat": agent.model.spec.action_repeat,
            "env_seed": arguments.env_seed,
            "seed": arguments.seed,
            "max_steps": arguments.max_steps,
            "threads": threads,
        },
        "players": [
            {
                "name": p.name,
                "return": p.episode.score,
                "length": p.episode.length,
                "decisions": p.episode.decisions,
                "milliseconds_per_decision": p.milliseconds,
                "transitions_per_decision": p.transitions,
                "tokens_per_second": p.tokens_per_second,
            }
            for p in players
        ],
        "seconds": seconds,
        "provenance": provenance(weights if weights.exists() else None),
    }
