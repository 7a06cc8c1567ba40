"""The options of ``tdm train``, apart from its work, so that ``--help`` imports little."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from tdm_agents.training.train_config import TrainConfig


@dataclass(frozen=True)
class Train:
    """Train a world model. The same command again goes on where it stopped.

    Attributes:
        data: Minari data sets (folders or ids), or folders with an index of several.
        out: Folder of the run: checkpoints, TensorBoard events and, at the end, the model.
        model: Kind of world model: ``transformer``, ``step_transformer`` (which predicts whole steps),
            ``generalist`` (a transformer of several environments), ``step_generalist`` (both), ``mlp``,
            ``iql``, ``pets``, ``rssm``, ``tdmpc2``, or one of an installed plug-in. By default a transformer,
            or a generalist where the data are of several environments.
        preset: One of the model's named configurations, for example ``small`` or ``gato-79m`` of a
            transformer; the model's first by default. It also has the defaults of ``action_repeat`` and
            ``planner``. What does not suit the environments' sizes is changed, and said (see
            ``suit_sizes``).
        model_settings: Settings of the model that differ from the preset, as pairs of name and value:
            ``hidden 128`` of an mlp, ``layers 6 tokenizer.bins 512`` of a transformer.
        action_repeat: Environment steps per decision; the preset's by default.
        weights: Share of the training of each of several environments, as pairs of name and number; by
            default in proportion to their transitions.
        init_from: Folder of a trained model to start from. It must be of the same kind and size, and of the
            same spaces unless its tokens need no data; a generalist may become a transformer.
        held_out_fraction: Fraction of the episodes of each environment that is kept for evaluation.
        terminal_reward: Added to the reward of every decision that terminated an episode; the data stay as
            they are. -100 in the Trajectory Transformer's experiments with falling walkers.
        data_seed: Seed of the choice of held-out episodes and of the order of the training windows.
        device: Where to train, for example ``cpu`` or ``cuda``.
        planner: Planner that ``agent.json`` names, so that the folder can be evaluated and loaded at once;
            the preset's by default.
        known_reward: Whether ``agent.json`` names the task's own reward function. That needs a function in
            ``tdm_envs``, a single task, and a model that imagines observations; otherwise the agent maximises
            the predicted reward.
        suit_sizes: Whether a context of less than four steps becomes four steps of the largest environment,
            the planner's horizon no more than the longest episode, and the horizons, starts and
            ``context_steps`` of the prediction error what held-out episodes allow. Only what you leave at its
            default is changed. Without it, a context that does not hold a step becomes three steps.
        any_processes: Whether torchrun may go on with another number of processes than the run began with;
            the result then differs by rounding.
        shard: Whether the processes of torchrun divide the weights, gradients and moments among themselves
            (FSDP2), for a model too large for each to have all; one of transformers.
        wait_minutes: How long a process of torchrun waits for the others before it gives up.
        training: Updates, learning rate, evaluation.
    """

    data: tuple[Path, ...]
    out: Path
    model: str | None = None
    preset: str | None = None
    model_settings: dict[str, str] = field(default_factory=dict)
    action_repeat: int | None = None
    weights: dict[str, float] = field(default_factory=dict)
    init_from: Path | None = None
    held_out_fraction: float = 0.05
    terminal_reward: float = 0.0
    data_seed: int = 0
    device: str = "cpu"
    planner: str | None = None
    known_reward: bool = True
    suit_sizes: bool = True
    any_processes: bool = False
    shard: bool = False
    wait_minutes: float = 30.0
    training: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
