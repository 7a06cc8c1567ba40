"""What does a search imagine in a maze, and where does the agent then go? A picture of one episode per maze.

It draws agents of the study `offline`, whose models are trained:

    tdm study offline --size small --out runs/studies
    python benchmarks/maze_paths.py --seed 18
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import keep
from tdm_agents.actors.enter import enter
from tdm_agents.actors.entries import parse_entry
from tdm_agents.collection.seeds import EVALUATION_FIRST
from tdm_agents.environments import EnvRef
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.evaluation.progress_bar import ProgressBar
from tdm_agents.evaluation.records import Episode
from tdm_agents.plot_style import IMAGINED, REAL, STYLE, save
from tdm_agents.studies.offline import STUDY
from tdm_agents.studies.stage_products import products_of
from tdm_agents.studies.stages import Evaluate, Size

WALL = "#d7dade"


@dataclass(frozen=True)
class Settings:
    """Which episodes, and where files are."""

    studies: Path = Path("runs/studies")
    """Folder of the study's products."""
    size: Size = "small"
    """Size of the study."""
    stages: tuple[str, ...] = ("medium-search-near", "large-search-near")
    """Evaluations whose agents play, one panel each."""
    seed: int = EVALUATION_FIRST
    """Seed of the environments."""
    out: Path = Path("benchmarks/results/maze_paths.json")
    """What was played."""
    plot: Path = Path("docs/maze_paths.png")
    """The picture."""


def played(stage: Evaluate, line: str, seed: int) -> tuple[EnvRef, Episode]:
    """The episode of a stage's agent, with what each plan expected."""
    env = stage.envs[0]
    entered = enter(parse_entry(line), env)
    with ProgressBar(stage.name) as progress:
        found = evaluate(entered.contestant, env, [seed], seed=0, record_horizon=100, on_step=progress)
    return env, found.episodes[0]


def draw(axis: Axes, env: EnvRef, episode: Episode, title: str) -> None:
    """The maze, every plan of the episode, and the path that was taken."""
    made: Any = env.make()
    maze = made.unwrapped.maze
    size = maze.maze_size_scaling
    for row, cells in enumerate(maze.maze_map):
        for column, cell in enumerate(cells):
            if cell == 1:
                x, y = maze.cell_rowcol_to_xy(np.array([row, column]))
                axis.add_patch(Rectangle((x - size / 2, y - size / 2), size, size, color=WALL, linewidth=0))
    made.close()
    recording = episode.recording
    assert recording is not None
    path, goal = recording.observation[:, :2], recording.observation[0, 2:4]
    for i, (step, imagined) in enumerate(zip(recording.planned_at, recording.imagined, strict=True)):
        plan = np.concatenate((path[step : step + 1], imagined[:, :2]))
        axis.plot(*plan.T, color=IMAGINED, alpha=0.35, linewidth=0.8, label=None if i else "imagined")
    axis.plot(*path.T, color=REAL, linewidth=1.6, label="taken")
    axis.plot(*path[0], "o", color=REAL, markersize=6, label="start")
    axis.plot(*goal, "*", color=IMAGINED, markersize=13, label="goal")
    axis.set_title(title, **STYLE)
    axis.set_aspect("equal")
    axis.autoscale_view()
    axis.axis("off")


def main(settings: Settings) -> None:
    """Play, draw, keep."""
    torch.set_num_threads(1)
    products = products_of(STUDY.plan(settings.size).stages, settings.studies)
    figure = Figure(figsize=(4.2 * len(settings.stages), 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(settings.stages), squeeze=False)[0]
    found = {}
    for axis, name in zip(axes, settings.stages, strict=True):
        stage = products[name].stage
        if not isinstance(stage, Evaluate):
            raise SystemExit(
                f"{name} is no evaluation of the study; expected one, such as medium-search-value"
            )
        line = stage.filled({key: str(product.files) for key, product in products.items()})
        env, episode = played(stage, line, settings.seed)
        draw(axis, env, episode, f"{env.id.split('_')[1].split('-')[0]}: {stage.label}")
        found[name] = {"env": str(env), "line": line, "return": episode.score, "length": episode.length,
                       "plans": episode.decisions}  # fmt: skip
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    save(settings.plot, figure)
    keep.result(settings.out, settings, found=found)


if __name__ == "__main__":
    main(tyro.cli(Settings))
