"""The shared part of ``tdm demo`` and ``tdm play``: an episode with a live line, its plot and its video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from tdm_agents import registry
from tdm_agents.actors.contestant import Contestant
from tdm_agents.agent import agent_files
from tdm_agents.environments import EnvRef, MakeEnv
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.evaluation.imagined import PlanLog, imagine, moments_of
from tdm_agents.evaluation.plots import Moment, plot_episode
from tdm_agents.evaluation.progress_bar import ProgressBar
from tdm_agents.evaluation.records import Episode, Evaluation, FloatArray, Recording, Tick
from tdm_agents.evaluation.video import NoRendererError, find_renderer, render_episode
from tdm_agents.protocols import Planner
from tdm_agents.remarks import remarks

# scalars in the plot, for the tasks of shipped checkpoints; for other tasks they are the first two
SCALARS = {"dm_control/cartpole-swingup-v0": {"pole's height, cos": 1, "cart's position, m": 0}}


def play_episode(
    name: str,
    contestant: Contestant,
    env: EnvRef | MakeEnv,
    env_seed: int,
    *,
    seed: int,
    max_steps: int | None,
    score_by: str | None = None,
    log: PlanLog | None = None,
    record_horizon: int = 0,
) -> Evaluation:
    """Play and record one episode, with a live line.

    Args:
        name: Text of the line.
        contestant: The contestant.
        env: The environment.
        env_seed: Seed of ``env.reset``.
        seed: Seed of the contestant.
        max_steps: Environment steps after which the episode is cut.
        score_by: Name of the reward function that the return is counted by; None = the environment's own.
        log: The log that takes note of an agent's plans.
        record_horizon: Imagined steps per decision to record, where there is no log.
    """
    with ProgressBar(name) as progress:

        def on_step(tick: Tick) -> None:
            progress(tick)
            if log is not None:
                log(tick)

        return evaluate(
            contestant,
            env,
            [env_seed],
            seed=seed,
            max_steps=max_steps,
            score_by=score_by,
            record_horizon=record_horizon,
            on_step=on_step,
        )


def planner_text(planner: Planner) -> str:
    """A planner's name, its horizon, and the settings that are not its defaults; all are in the report."""
    name = agent_files.planner_name(planner)
    usual = registry.planner_defaults(name)
    settings = {f.name: getattr(planner, f.name) for f in fields(planner)}  # type: ignore[arg-type]
    told = {
        key: value for key, value in settings.items() if key == "horizon" or value != usual.get(key, value)
    }
    return f"{name} ({', '.join(f'{key}={value}' for key, value in told.items())})"


def recording_of(episode: Episode) -> Recording:
    """What happened in an episode of :func:`play_episode`."""
    assert episode.recording is not None
    return episode.recording


def logged_moments(log: PlanLog, recording: Recording) -> list[Moment]:
    """A few plans of an agent whose model can be asked again after the episode.

    The list is empty for a model that imagines no observations.
    """
    agent = log.agent
    if not agent.model.spec.imagines_observations:
        return []
    plans = moments_of(len(log.views), agent.planner.horizon, agent.replan_every)
    return [imagine(agent, log.views, recording, index) for index in plans]


def recorded_moments(recording: Recording, replan_every: int) -> list[Moment]:
    """A few plans of a model that reads the live environment, as they were made in the episode.

    What the true dynamics predict for the actions then taken is what happened, so it is left out.
    """
    plans, horizon, n = recording.imagined.shape
    nothing = np.zeros((0, n), np.float32)
    return [
        Moment(int(recording.planned_at[index]), recording.imagined[index], nothing)
        for index in moments_of(plans, horizon, replan_every)
    ]


def draw(
    path: Path,
    env: EnvRef,
    planner: Planner,
    moments: Sequence[Moment],
    recording: Recording,
    rewards: Mapping[str, FloatArray],
    *,
    labels: Sequence[str],
    seconds_per_step: float | None,
    action_repeat: int,
    model: str = "a learned model",
) -> None:
    """Write the plot of an episode; see :func:`tdm_agents.evaluation.plots.plot_episode`.

    ``labels`` are those of the observation scalars (:func:`tdm_agents.spaces.scalar_labels.scalar_labels`).
    """
    first_two = {f"observation {label}": i for i, label in enumerate(labels[:2])}
    name = agent_files.planner_name(planner)
    plot_episode(
        path,
        recording,
        moments,
        rewards,
        scalars=SCALARS.get(env.id, first_two),
        seconds_per_step=seconds_per_step,
        action_repeat=action_repeat,
        unseen="" if moments else "the model imagines no observations",
        title=f"{env}: {name} plans {planner.horizon} decisions ahead in {model}",
    )


def film(path: Path, env: EnvRef, episode: Episode, environ: Mapping[str, str]) -> bool:
    """Write the video; False, after saying why and what would help, where nothing renders.

    Args:
        path: The file to write.
        env: The environment of the episode.
        episode: An episode of :func:`play_episode`.
        environ: The environment variables as the user set them.
    """
    try:
        with remarks().status("looking for a renderer"):
            backend = find_renderer(env, environ)
    except NoRendererError as error:
        print(f"no video: {error}")
        return False
    with remarks().status("rendering the video"):
        actions = recording_of(episode).action
        own = episode.score if episode.own is None else episode.own
        render_episode(path, env, episode.seed, actions, score=own, backend=backend)
    print(f"video: {path} (MUJOCO_GL={backend})")
    return True
