"""``tdm experts``: planners with settings tuned for a task, and policies trained with Stable-Baselines3."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from tdm_agents.cli.checks import at_least, output_folder
from tdm_agents.cli.config_file import keep_config
from tdm_agents.environments import EnvRef
from tdm_agents.settings_text import parse_settings

if TYPE_CHECKING:
    from tdm_agents.experts.reinforcement import Evaluated


@dataclass(frozen=True)
class List:
    """List the planners on the true dynamics whose settings were tuned for a task."""

    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class Train:
    """Train a policy with Stable-Baselines3; the best that was evaluated on the way is kept, OUT/best.zip.

    Ctrl-C ends training; the policy that was kept until then is whole.
    """

    out: Path
    """Folder of the policy, its record (training.json) and TensorBoard events."""
    env_id: str
    """Gymnasium id, with its arguments if it takes some: `"tdm/WalkerTree-v0 dof=12 body=3"`."""
    algorithm: Literal["ppo", "sac"] = "ppo"
    """The algorithm; PPO also takes discrete actions."""
    settings: dict[str, str] = field(default_factory=dict)
    """Arguments of the algorithm, as pairs of name and value: `learning-rate 1e-3 n-steps 512`."""
    steps: int = 1_000_000
    """Number of environment steps, of all environments together."""
    cpu_minutes: float | None = None
    """CPU time after which training ends, evaluations included; no limit if not given."""
    num_envs: int = 8
    """Number of environments side by side, in one process."""
    evaluate_every: int = 40_000
    """Environment steps between evaluations."""
    evaluation_episodes: int = 3
    """Number of episodes per evaluation."""
    seed: int = 0
    """Seed of the networks, the actions and the training environments."""
    device: str = "cpu"
    """Where the networks compute; for small ones the CPU is faster."""
    threads: int = 1
    """Threads of torch; more threads than idle cores are many times slower."""


Command = Annotated[List, tyro.conf.subcommand("list")] | Annotated[Train, tyro.conf.subcommand("train")]


@dataclass(frozen=True)
class Experts:
    """Experts: list the tuned planners, train policies."""

    command: tyro.conf.OmitSubcommandPrefixes[Command]


def run(arguments: Experts) -> None:
    """Do what was asked for."""
    command = arguments.command
    if isinstance(command, List):
        _list(command)
    else:
        _train(command)


def _list(command: List) -> None:
    import dataclasses
    import json

    from rich.console import Console
    from rich.table import Table

    from tdm_agents.actors.tuned import EXPERTS

    if command.json:
        print(json.dumps([dataclasses.asdict(expert) for expert in EXPERTS.values()], indent=2))
        return
    table = Table()
    table.add_column("expert", no_wrap=True)  # the others give way, because users copy names
    table.add_column("environment", no_wrap=True)
    table.add_column("action repeat", width=6)
    table.add_column("planner and its settings", overflow="fold")
    for expert in EXPERTS.values():
        settings = ", ".join(f"{name}={value!r}" for name, value in expert.settings.items())
        table.add_row(expert.name, expert.env_id, str(expert.action_repeat), f"{expert.planner}: {settings}")
    Console().print(table)


def _train(command: Train) -> None:
    at_least(1, threads=command.threads)
    output_folder(command.out)
    import torch

    from tdm_agents.cli.checks import usable_device
    from tdm_agents.experts.reinforcement import BEST_FILE, Training, train
    from tdm_agents.remarks import remark

    usable_device(command.device)
    keep_config(command, "experts train", command.out)
    torch.set_num_threads(command.threads)
    training = Training(
        env=EnvRef.parse(command.env_id),
        algorithm=command.algorithm,
        settings=parse_settings(command.settings),
        steps=command.steps,
        cpu_seconds=None if command.cpu_minutes is None else 60.0 * command.cpu_minutes,
        num_envs=command.num_envs,
        evaluate_every=command.evaluate_every,
        evaluation_episodes=command.evaluation_episodes,
        seed=command.seed,
        device=command.device,
    )
    found: list[Evaluated] = []

    def watch(one: Evaluated) -> None:
        found.append(one)
        best = ", the best so far" if one.best else ""
        returned = f"mean return {one.mean_return:.1f}{best}"
        remark(f"{one.steps:>10,} steps, {one.cpu_seconds:6.0f} CPU s: {returned}")

    try:
        train(training, command.out, watch=watch)
    except KeyboardInterrupt:
        print(f"Stopped. {_kept(found, command.out / BEST_FILE)}")
        raise SystemExit(130) from None
    print(_kept(found, command.out / BEST_FILE))


def _kept(found: list[Evaluated], path: Path) -> str:
    if not found:
        return "Nothing was evaluated yet, and nothing is kept."
    best = max(found, key=lambda one: one.mean_return)
    return f"Mean return {best.mean_return:.1f} after {best.steps:,} steps is kept in {path}."
