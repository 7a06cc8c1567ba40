"""The options of ``tdm online``, apart from its work, so that ``--help`` imports little."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from tdm_agents.cli.imports import Modules
from tdm_agents.online.online_config import OnlineConfig


@dataclass(frozen=True)
class Online:
    """Train a world model on what its own agent does. The same command again goes on where it stopped.

    Attributes:
        env_id: The environment, with its arguments if it takes some: ``"tdm/WalkerTree-v0 dof=12 body=3"``.
            Give the option several times for one model of several environments, which are played in turn.
        out: Folder of the run: the agent, its curve, checkpoints, TensorBoard events, the replay memory.
        model: Kind of world model: ``tdmpc2``, ``tdmpc2-multitask`` (of several environments), ``mlp``,
            ``pets``, or one of an installed plug-in. By default one of the first two.
        preset: One of the model's named configurations, for example ``1m`` of ``tdmpc2``; the model's first
            by default. It also has the defaults of ``action_repeat`` and ``planner``.
        model_settings: Settings of the model that differ from the preset, as pairs of name and value.
        action_repeat: Environment steps per decision; the preset's by default.
        terminates: Whether episodes may terminate, so that the model learns when; by default whether one of a
            few random episodes does.
        planner: The planner; the preset's by default.
        planner_settings: The planner's settings that differ from the preset's (or, for another planner, from
            its defaults), as pairs of name and value.
        pixels: Whether the agent sees pictures instead of the state: three of 64 x 64 pixels, one per
            decision. It is then the agent of ``tdm/Pixels-v0 env=...``, which takes other numbers. An
            environment that observes images as it is needs no such option.
        weights: Share of each of several environments, as pairs of name and number; by default equal.
        data: Minari data sets of the environment (folders or ids), or folders with an index of several, with
            which the replay memory begins.
        init_from: Folder of a trained model of the same kind, size and spaces to start from, for example one
            of ``tdm train`` or of ``tdm online``. It acts from the first decision on.
        device: Where to train, for example ``cpu`` or ``cuda``.
        training: Steps, seed, data and updates, evaluation.
    """

    env_id: tyro.conf.UseAppendAction[tuple[str, ...]]
    out: Path
    model: str | None = None
    preset: str | None = None
    model_settings: dict[str, str] = field(default_factory=dict)
    action_repeat: int | None = None
    terminates: bool | None = None
    planner: str | None = None
    planner_settings: dict[str, str] = field(default_factory=dict)
    pixels: bool = False
    weights: dict[str, float] = field(default_factory=dict)
    data: tuple[Path, ...] = ()
    init_from: Path | None = None
    device: str = "cpu"
    training: Annotated[OnlineConfig, tyro.conf.arg(name="")] = field(default_factory=OnlineConfig)
    import_: Modules = ()
