"""``tdm play``: one episode of an agent, with a plot and a video."""

from __future__ import annotations

import os
import platform
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tdm_agents.actors.entries import Entry
from tdm_agents.cli.checks import (
    at_least,
    output_file,
    output_folder,
    require_viewer,
    tell_endless,
    usable_device,
)
from tdm_agents.cli.config_file import keep_config
from tdm_agents.cli.imports import Modules, import_modules
from tdm_agents.errors import WrongValueError
from tdm_agents.settings_text import parse_settings

if TYPE_CHECKING:
    from tdm_agents.environments import Env, MakeEnv
    from tdm_agents.view.episode_film import EpisodeFilm

DEFAULT_CHECKPOINT = "cartpole-swingup"


@dataclass(frozen=True)
class Play:
    """Play one episode with a checkpoint or the true simulator: live progress, a plot and a video."""

    checkpoint: str | None = None
    """Name of a bundled checkpoint, or a folder; the shipped one if neither it nor --simulator is given."""
    env_id: str | None = None
    """Environment to play, with its arguments if it takes some: `"tdm/WalkerTree-v0 dof=12 body=3"`; the
    checkpoint's own if not given."""
    planner: str | None = None
    """Name of a planner (see `tdm planners`); the checkpoint's own if not given. With --simulator it may be
    `expert`, which is the planner tuned for the environment (see `tdm experts list`)."""
    planner_settings: dict[str, str] = field(default_factory=dict)
    """The planner's settings, as pairs of name and value: `num-samples 64 horizon 25`."""
    replan_every: int | None = None
    """Decisions per plan; the checkpoint's own if not given."""
    deadline: float | None = None
    """Seconds that a decision may take; if not given the checkpoint's own, or as long as it takes."""
    reward: str | None = None
    """Reward to plan for and to count returns by, instead of the checkpoint's and the environment's:
    `my_rewards:slow`, the function `slow` of my_rewards.py in the current folder, or a name that a package
    provides."""
    simulator: bool = False
    """Plan with the true dynamics instead of a model; with --checkpoint, the checkpoint's planner, settings,
    reward function and action repeat are used."""
    action_repeat: int | None = None
    """Environment steps per decision of the simulator; if not given the checkpoint's own, or 1."""
    env_seed: int = 9_999
    """Seed of the episode."""
    seed: int = 0
    """Seed of the agent."""
    max_steps: int | None = None
    """Environment steps after which the episode is cut; 10,000 where neither it nor the environment says."""
    device: str = "cpu"
    """Where the model computes."""
    threads: int = 1
    """Threads of torch and of the simulator; more threads than idle cores are many times slower."""
    video: bool = True
    """Render a video afterwards; MUJOCO_GL=disable skips it too."""
    human: bool = False
    """Show the episode in a window while it is played; needs a screen."""
    record: Path | None = None
    """HTML file of the episode in 3D, with the futures that each plan imagined, to look at in any browser and
    to send to somebody; needs the extra `view` and a body of MuJoCo's."""
    out: Path = Path("runs/play")
    """Folder of play.png, play.mp4 and play.json."""
    import_: Modules = ()


def run(arguments: Play) -> None:
    """Play, print return and cost, and write the plot, the video and ``play.json``.

    Raises:
        LookupError: If there is no such checkpoint, planner or environment.
        ValueError: If no environment is named, a window is asked for where there is no screen, or a setting
            makes no sense.
    """
    _check(arguments)
    if arguments.record is not None:
        require_viewer("tdm play --record")
    from tdm_agents.evaluation.video import OFF

    environ = dict(os.environ)
    if "MUJOCO_GL" not in os.environ and not arguments.human:
        # another process renders the video, so dm_control must not look for a screen when imported here
        os.environ["MUJOCO_GL"] = OFF[0]

    import torch

    from tdm_agents.actors.agents import AgentFactory
    from tdm_agents.actors.enter import enter, environment_of
    from tdm_agents.agent import TDMAgent
    from tdm_agents.cli.one_episode import (
        draw,
        film,
        logged_moments,
        planner_text,
        play_episode,
        recorded_moments,
        recording_of,
    )
    from tdm_agents.environments import EnvRef, known_seconds
    from tdm_agents.evaluation.imagined import PlanLog
    from tdm_agents.evaluation.report import make_report, write_report
    from tdm_agents.protocols import tracing
    from tdm_agents.remarks import remark, remarks
    from tdm_agents.spaces.scalar_names import labels_of

    usable_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    import_modules(arguments.import_)
    entry = entry_of(arguments)
    env = EnvRef.parse(arguments.env_id) if arguments.env_id else environment_of(entry)
    if env is None:
        raise WrongValueError("no environment: pass --env-id (the checkpoint names none)")
    entered = enter(entry, env, seed=arguments.seed, device=arguments.device, threads=arguments.threads)
    contestant = entered.contestant
    assert isinstance(contestant, TDMAgent | AgentFactory)  # no other entry is made here
    made = env.make()
    step_seconds, labels = known_seconds(made), labels_of(made)
    tell_endless(str(env), made, arguments.max_steps, remark)
    scene = None
    if arguments.record is not None:
        from tdm_agents.view.episode_film import EpisodeFilm

        scene = EpisodeFilm(contestant)
        scene.watch(made)  # refused now, not after the episode
    made.close()
    remark(f"{env}, episode seed {arguments.env_seed}; {planner_text(contestant.planner)}")
    log = PlanLog(contestant) if isinstance(contestant, TDMAgent) else None
    make = partial(env.make, render_mode="human") if arguments.human else env.make
    with nullcontext() if scene is None else tracing():
        evaluation = play_episode(
            entered.name,
            contestant if scene is None else scene.contestant,
            env if scene is None and not arguments.human else partial(filmed, make, scene),
            arguments.env_seed,
            seed=arguments.seed,
            max_steps=arguments.max_steps,
            score_by=arguments.reward,
            log=log,
            record_horizon=contestant.planner.horizon if log is None else 0,
        )
    evaluation = replace(evaluation, env_id=str(env))
    episode = evaluation.episodes[0]
    recording = recording_of(episode)
    settings = {
        **entered.settings,
        "env_seed": arguments.env_seed,
        "seed": arguments.seed,
        "max_steps": arguments.max_steps,
        **({} if arguments.reward is None else {"score_by": arguments.reward}),
        "device": arguments.device,
        "threads": arguments.threads,
    }
    weights = entered.files[0] if entered.files else None
    report = make_report(entered.name, evaluation, settings=settings, weights=weights)
    by = "" if arguments.reward is None else f" by {arguments.reward}"
    print(
        f"return{by} {episode.score:.1f} after {episode.length} environment steps ({episode.end}); "
        f"{evaluation.milliseconds_per_decision:.1f} ms and "
        f"{evaluation.transitions_per_decision:,.0f} imagined transitions per decision"
    )
    draw(
        arguments.out / "play.png",
        env,
        contestant.planner,
        recorded_moments(recording, contestant.replan_every)
        if log is None
        else logged_moments(log, recording),
        recording,
        {entered.name: recording.reward},
        labels=labels,
        seconds_per_step=step_seconds,
        action_repeat=entered.settings["action_repeat"],
        model="the true simulator" if log is None else "a learned model",
    )
    print(f"plot: {arguments.out / 'play.png'}")
    if arguments.video:
        film(arguments.out / "play.mp4", env, episode, environ)
    if scene is not None:
        assert arguments.record is not None and step_seconds is not None  # MuJoCo says it
        with remarks().status("drawing the scene"):
            size = scene.write(arguments.record, seconds_per_step=step_seconds)
        print(f"scene: {arguments.record} ({size / 1e6:.1f} MB)")
    write_report(arguments.out / "play.json", report)
    keep_config(arguments, "play", arguments.out)
    print(f"settings, seeds and machine: {arguments.out / 'play.json'}")


def filmed(make: MakeEnv, scene: EpisodeFilm | None) -> Env:
    """The environment, filmed if a scene is wanted."""
    return make() if scene is None else scene.watch(make())


def entry_of(arguments: Play) -> Entry:
    """The entry that the options describe."""
    options = parse_settings(arguments.planner_settings) | {
        "planner": arguments.planner,
        "replan_every": arguments.replan_every,
        "deadline": arguments.deadline,
        "reward_function": arguments.reward,
    }
    if arguments.simulator:
        simulated = {"like": arguments.checkpoint, "action_repeat": arguments.action_repeat}
        return Entry("simulator", "", options | simulated)
    return Entry("checkpoint", arguments.checkpoint or DEFAULT_CHECKPOINT, options)


def _check(arguments: Play) -> None:
    at_least(
        1,
        action_repeat=arguments.action_repeat,
        replan_every=arguments.replan_every,
        max_steps=arguments.max_steps,
        threads=arguments.threads,
    )
    at_least(0, env_seed=arguments.env_seed)
    output_folder(arguments.out)
    if arguments.record is not None:
        output_file(arguments.record, "--record")
        if arguments.record.suffix != ".html":
            raise WrongValueError(f"--record is {arguments.record}; expected a file that ends in .html")
    if arguments.simulator and not (arguments.checkpoint or arguments.planner):
        raise WrongValueError("--simulator without a checkpoint needs --planner NAME (see `tdm planners`)")
    if arguments.action_repeat is not None and not arguments.simulator:
        raise WrongValueError("--action-repeat is the simulator's; a checkpoint's model has its own")
    screen = platform.system() != "Linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if arguments.human and not screen:
        raise WrongValueError(
            "--human needs a screen, and neither DISPLAY nor WAYLAND_DISPLAY is set; leave it out and watch "
            "the video"
        )
