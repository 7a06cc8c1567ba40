"""What ``tdm demo`` and ``tdm play`` share: an episode with a live line, its plot and its video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from tdm_agents.agent import agent_files
from tdm_agents.environments import Env, Place
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.evaluation.moments import PlanLog, imagine, moments_of
from tdm_agents.evaluation.players import Contestant
from tdm_agents.evaluation.plots import Moment, plot_episode
from tdm_agents.evaluation.progress import ProgressBar
from tdm_agents.evaluation.records import Episode, Evaluation, FloatArray, Recording, Tick
from tdm_agents.evaluation.video import NoRendererError, find_renderer, render_episode
from tdm_agents.protocols import Planner

# what the plot shows of the tasks that checkpoints are shipped for; of others the first two scalars
SCALARS = {"dm_control/cartpole-swingup-v0": {"pole's height, cos": 1, "cart's position, m": 0}}


def play_episode(
    name: str,
    contestant: Contestant,
    env: Place | Callable[[], Env],
    env_seed: int,
    *,
    seed: int,
    max_steps: int | None,
    log: PlanLog | None = None,
    record_horizon: int = 0,
) -> Evaluation:
    """One recorded episode with a live line.

    Args:
        name: What the line says.
        contestant: Who plays.
        env: Where.
        env_seed: Of ``env.reset``.
        seed: Of the contestant.
        max_steps: Environment steps after which the episode is cut.
        log: Takes note of the plans of an agent.
        record_horizon: Imagined steps a decision to record, where there is no log.
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
            record_horizon=record_horizon,
            on_step=on_step,
        )


def recording_of(episode: Episode) -> Recording:
    """What happened in an episode of :func:`play_episode`."""
    assert episode.recording is not None
    return episode.recording


def logged_moments(log: PlanLog, recording: Recording) -> list[Moment]:
    """A few plans of an agent whose model can be asked again after the episode.

    None of a model that imagines no observations.
    """
    agent = log.agent
    if not agent.model.spec.imagines_observations:
        return []
    plans = moments_of(len(log.views), agent.planner.horizon, agent.replan_every)
    return [imagine(agent, log.views, recording, index) for index in plans]


def recorded_moments(recording: Recording, replan_every: int) -> list[Moment]:
    """A few plans of a model that reads the live environment, as they were made there.

    What it expected of the actions then taken is what happened, and is left out.
    """
    plans, horizon, n = recording.imagined.shape
    nothing = np.zeros((0, n), np.float32)
    return [
        Moment(int(recording.planned_at[index]), recording.imagined[index], nothing)
        for index in moments_of(plans, horizon, replan_every)
    ]


def draw(
    path: Path,
    place: Place,
    planner: Planner,
    moments: Sequence[Moment],
    recording: Recording,
    rewards: Mapping[str, FloatArray],
    *,
    seconds_per_step: float,
    action_repeat: int,
    model: str = "a learned model",
) -> None:
    """Write the plot of an episode; see :func:`tdm_agents.evaluation.plots.plot_episode`."""
    first_two = {f"observation {i}": i for i in range(min(2, recording.observation.shape[1]))}
    name = agent_files.planner_name(planner)
    plot_episode(
        path,
        recording,
        moments,
        rewards,
        scalars=SCALARS.get(place.env_id, first_two),
        seconds_per_step=seconds_per_step,
        action_repeat=action_repeat,
        unseen="" if moments else "the model imagines no observations",
        title=f"{place.name}: {name} plans {planner.horizon} decisions ahead in {model}",
    )


def film(path: Path, place: Place, episode: Episode, environ: Mapping[str, str], console: Console) -> bool:
    """Write the video; False, after saying why and what would help, where nothing renders.

    Args:
        path: Where to write.
        place: Where the episode was played.
        episode: Of :func:`play_episode`.
        environ: The environment variables as the user set them.
        console: What to say it on.
    """
    try:
        with console.status("looking for a renderer"):
            backend = find_renderer(place.name, environ)
    except NoRendererError as error:
        console.print(f"no video: {error}", soft_wrap=True, markup=False)
        return False
    with console.status("rendering the video"):
        actions = recording_of(episode).action
        render_episode(path, place.name, episode.seed, actions, score=episode.score, backend=backend)
    console.print(f"video: {path} (MUJOCO_GL={backend})")
    return True
