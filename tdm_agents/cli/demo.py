"""``tdm demo``: one episode with the shipped checkpoint, beside the true simulator and random actions."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdm_agents.cli.checks import at_least, output_folder

if TYPE_CHECKING:
    import torch
    from rich.console import Console
    from rich.table import Table

    from tdm_agents.agent import TDMAgent
    from tdm_agents.deciding import PlanView
    from tdm_agents.evaluation.plots import Moment
    from tdm_agents.evaluation.records import Episode, Recording, Tick
    from tdm_agents.protocols import WorldModel

SCHEMA = 1
MAX_THREADS = 8
_TIMED_STEPS = 8

# what the plot shows of the tasks that checkpoints are shipped for; of others the first two scalars
SCALARS = {"dm_control/cartpole-swingup-v0": {"pole's height, cos": 1, "cart's position, m": 0}}


@dataclass(frozen=True)
class Demo:
    """Play one episode with the shipped checkpoint: live progress, a table, a plot and a video."""

    checkpoint: str = "cartpole-swingup"
    """Name of a bundled checkpoint, or a folder."""
    planner: str | None = None
    """Name of a planner (see `tdm planners`); the checkpoint's own if not given."""
    env_seed: int = 9_999
    """Seed of the episode, apart from those of collection and tuning."""
    seed: int = 0
    """Seed of the players."""
    threads: int | None = None
    """Threads of torch and of the simulator; the fastest number is found by a short trial if not given."""
    max_steps: int | None = None
    """Environment steps after which the episode is cut; the whole episode if not given."""
    video: bool = True
    """Render a video; MUJOCO_GL=disable skips it too."""
    out: Path = Path("runs/demo")
    """Folder of the plot, the video and demo.json."""


@dataclass(frozen=True, slots=True)
class Player:
    """One line of the table.

    Attributes:
        name: Who played.
        episode: What came out.
        tokens: Tokens of an imagined transition; None where nothing is imagined in tokens.
    """

    name: str
    episode: Episode
    tokens: int | None = None

    @property
    def milliseconds(self) -> float:
        """A decision."""
        return self.episode.milliseconds / max(self.episode.decisions, 1)

    @property
    def transitions(self) -> float:
        """Imagined a decision."""
        return self.episode.transitions / max(self.episode.decisions, 1)

    @property
    def tokens_per_second(self) -> float | None:
        """Imagined, while planning."""
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
        # this process renders nothing: dm_control shall not look for a screen when it is imported
        os.environ["MUJOCO_GL"] = OFF[0]

    import torch
    from rich.console import Console

    from tdm_agents import checkpoint
    from tdm_agents.agent import TDMAgent
    from tdm_agents.evaluation.environments import make_env
    from tdm_agents.evaluation.report import write_report

    began = time.perf_counter()
    console = Console()
    agent = TDMAgent.load(arguments.checkpoint, arguments.planner, arguments.seed)
    env_id = agent.env_id
    if env_id is None:
        raise ValueError(
            f"checkpoint {arguments.checkpoint!r} names no environment; save the agent with env_id="
        )
    env = make_env(env_id)
    observation = agent.observation(env.reset(seed=arguments.env_seed)[0])
    seconds_per_step = float(env.unwrapped.dt)  # type: ignore[attr-defined]
    env.close()
    threads, measured = arguments.threads, ""
    if threads is None:
        threads, tried = fastest_threads(agent, observation)
        each = ", ".join(f"{ms:.1f} ms with {count}" for count, ms in tried.items())
        measured = f" (an imagined step of all candidates takes {each})"
    torch.set_num_threads(threads)
    planner = checkpoint.planner_name(agent.planner)
    console.print(f"{env_id}, episode seed {arguments.env_seed}; {_size(agent)} and {agent.planner}")
    console.print(f"threads: {threads}{measured}")
    players, views = play(agent, env_id, arguments, threads)

    first = players[0].episode
    console.print(_table(players, f"one episode, {first.length} environment steps"))
    _plot(arguments.out / "demo.png", agent, env_id, players, views, seconds_per_step, planner)
    console.print(f"plot: {arguments.out / 'demo.png'}")
    if arguments.video:
        _video(arguments, env_id, first, environ, console)
    seconds = time.perf_counter() - began
    report = _report(arguments, agent, planner, threads, players, seconds)
    write_report(arguments.out / "demo.json", report)
    console.print(f"settings, seeds and machine: {arguments.out / 'demo.json'}; {seconds:.0f} s in all")


def fastest_threads(agent: TDMAgent, observation: torch.Tensor) -> tuple[int, dict[int, float]]:
    """The number of torch's threads with which the model imagines fastest, and milliseconds a step by number.

    Doubles the number while that clearly helps. Where other processes want the cores too, two threads that
    wait for each other are tens of times slower than one, and nothing but trying tells; so what is timed is a
    few imagined steps rather than a decision. Leaves torch's setting changed.

    Args:
        agent: Its generator and memory stay as they are.
        observation: ``[n]``, from where to imagine.
    """
    import torch

    from tdm_agents.protocols import History

    model, spec = agent.model, agent.model.spec
    history = History.of_observation(observation[None], action_dim=spec.action_dim)
    rows = torch.zeros(getattr(agent.planner, "num_samples", 32), dtype=torch.int64, device=spec.device)
    action = torch.zeros(len(rows), spec.action_dim, dtype=spec.dtype, device=spec.device)

    def milliseconds(steps: int) -> float:
        generator = torch.Generator(device=spec.device).manual_seed(0)
        state = model.take(model.start(history, horizon=steps), rows)
        began = time.perf_counter()
        for _ in range(steps):
            state, _ = model.step(state, action, generator=generator)
        return 1e3 * (time.perf_counter() - began) / steps

    torch.set_num_threads(1)
    milliseconds(1)  # the first one allocates
    tried, best = {1: milliseconds(_TIMED_STEPS)}, 1
    while 2 * best <= min(_cores(), MAX_THREADS):
        count = 2 * best
        torch.set_num_threads(count)
        tried[count] = milliseconds(1)  # starts the threads, and shows the worst at once
        if tried[count] < 2.0 * tried[best]:
            tried[count] = milliseconds(_TIMED_STEPS)
        if tried[count] > 0.9 * tried[best]:
            break
        best = count
    return best, tried


def play(agent: TDMAgent, env_id: str, arguments: Demo, threads: int) -> tuple[list[Player], list[PlanView]]:
    """The agent, the same planner on the true simulator, and random actions, each on the same episode.

    Returns:
        The players in that order, and the agent's plans, one a decision.
    """
    from tdm_agents.evaluation.episodes import evaluate
    from tdm_agents.evaluation.players import AgentFactory, Policy, RandomPolicy
    from tdm_agents.evaluation.progress import ProgressBar
    from tdm_agents.world_models.simulator import SimulatorModel
    from tdm_agents.world_models.transformer.model import TransformerWorldModel
    from tdm_envs.suite import batched_task

    spec = agent.model.spec
    views: list[PlanView] = []

    def note(tick: Tick) -> None:
        if agent.last_plan is not None and (not views or views[-1] is not agent.last_plan):
            views.append(agent.last_plan)

    def one(name: str, contestant: TDMAgent | AgentFactory | Policy, tokens: int | None = None) -> Player:
        with ProgressBar(name) as progress:

            def on_step(tick: Tick) -> None:
                progress(tick)
                if contestant is agent:
                    note(tick)

            evaluation = evaluate(
                contestant,
                env_id,
                [arguments.env_seed],
                seed=arguments.seed,
                max_steps=arguments.max_steps,
                record_horizon=0,
                on_step=on_step,
            )
        return Player(name, evaluation.episodes[0], tokens)

    def simulator(envs: Any) -> WorldModel[Any]:
        return SimulatorModel(envs, spec.action_repeat, threads=threads, fast=batched_task(env_id))

    base = agent.base_model
    tokens = base.layout.tokens if isinstance(base, TransformerWorldModel) else None
    return [
        one("TDM agent", agent, tokens),
        one(
            "true simulator",
            AgentFactory(simulator, agent.planner, agent.reward_function, agent.replan_every),
        ),
        one("random policy", RandomPolicy(spec.action_space, arguments.seed)),
    ], views


def imagine(agent: TDMAgent, views: Sequence[PlanView], recording: Recording, decision: int) -> Moment:
    """What the model expects at a decision, of its plan and of the actions that were then taken.

    Args:
        agent: The agent that planned.
        views: Every plan of the episode, in order.
        recording: The episode.
        decision: Index into ``views``.
    """
    import torch

    from tdm_agents.evaluation.plots import Moment
    from tdm_agents.protocols import rollout

    model, view = agent.model, views[decision]
    planned = view.plan.sequence
    horizon = planned.shape[1]
    executed = [v.plan.sequence[:, : agent.replan_every] for v in views[decision : decision + horizon]]
    taken = torch.cat(executed, dim=1)[:, :horizon]  # [1, h, m]
    seen = []
    for actions in (planned, taken):
        generator = torch.Generator(device=model.spec.device).manual_seed(0)
        state = model.start(view.history, horizon=horizon)
        with torch.no_grad():
            seen.append(rollout(model, state, actions, generator=generator).observation[0].cpu().numpy())
    return Moment(int(recording.decided_at[decision]), *seen)


def moments_of(decisions: int, horizon: int) -> list[int]:
    """Up to four decisions to look at: the first three horizons, where the motion is, and mid-episode."""
    last = max(decisions - horizon, 0)
    return sorted({min(d, last) for d in (0, horizon, 2 * horizon, decisions // 2)})


def _check(arguments: Demo) -> None:
    at_least(1, threads=arguments.threads, max_steps=arguments.max_steps)
    output_folder(arguments.out)


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
        "ms a\ndecision",
        "imagined\ntransitions\na decision",
        "imagined\ntokens\na second",
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


def _plot(
    path: Path,
    agent: TDMAgent,
    env_id: str,
    players: Sequence[Player],
    views: Sequence[PlanView],
    seconds_per_step: float,
    planner: str,
) -> None:
    from tdm_agents.evaluation.plots import plot_episode

    recording, spec = _recording(players[0].episode), agent.model.spec
    decisions = moments_of(len(views), agent.planner.horizon)
    first_two = {f"observation {i}": i for i in range(min(2, spec.observation_dim))}
    plot_episode(
        path,
        recording,
        [imagine(agent, views, recording, d) for d in decisions],
        {p.name: _recording(p.episode).reward for p in players},
        scalars=SCALARS.get(env_id, first_two),
        seconds_per_step=seconds_per_step,
        action_repeat=spec.action_repeat,
        title=f"{env_id}: {planner} plans {agent.planner.horizon} decisions ahead in a learned model",
    )


def _video(
    arguments: Demo, env_id: str, episode: Episode, environ: Mapping[str, str], console: Console
) -> Path | None:
    """The video's path; None, after saying why and what would help, where nothing renders."""
    from tdm_agents.evaluation.video import NoRendererError, find_renderer, render_episode

    path = arguments.out / "demo.mp4"
    try:
        with console.status("looking for a renderer"):
            backend = find_renderer(env_id, environ)
    except NoRendererError as error:
        console.print(f"no video: {error}", soft_wrap=True, markup=False)
        return None
    with console.status("rendering the video"):
        render_episode(
            path, env_id, episode.seed, _recording(episode).action, score=episode.score, backend=backend
        )
    console.print(f"video: {path} (MUJOCO_GL={backend})")
    return path


def _report(
    arguments: Demo, agent: TDMAgent, planner: str, threads: int, players: Sequence[Player], seconds: float
) -> dict[str, Any]:
    """What repeats this demo, and what came out."""
    from tdm_agents import checkpoint
    from tdm_agents.evaluation.report import provenance

    weights = checkpoint.resolve(arguments.checkpoint) / "weights.safetensors"
    return {
        "schema": SCHEMA,
        "kind": "demo",
        "env_id": agent.env_id,
        "settings": {
            "checkpoint": arguments.checkpoint,
            "model": type(agent.base_model).__name__,
            "planner": planner,
            "planner_settings": checkpoint.settings_of(agent.planner, None, None).planner_settings,
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


def _recording(episode: Episode) -> Recording:
    assert episode.recording is not None  # play() records
    return episode.recording
