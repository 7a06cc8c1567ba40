"""``tdm experts``: planners with settings tuned for a task, and policies trained with Stable-Baselines3."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from tdm_agents.cli.checks import at_least, output_folder
from tdm_agents.cli.config_file import keep_config
from tdm_agents.cli.pool_options import Hands, PoolOptions, telling
from tdm_agents.environments import EnvRef
from tdm_agents.errors import WrongValueError
from tdm_agents.settings_text import parse_settings

if TYPE_CHECKING:
    from tdm_agents.experts.reinforcement import Evaluated, Training
    from tdm_agents.experts.training_jobs import TrainingJob


@dataclass(frozen=True)
class List:
    """List the planners on the true dynamics whose settings were tuned for a task."""

    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class Train:
    """Train a policy with Stable-Baselines3; the best that was evaluated on the way is kept, OUT/best.zip.

    Ctrl-C ends training; the policy that was kept until then is whole. Policies of several environments are
    trained side by side (--workers, --pool), each in OUT/NAME/best.zip; the same command again trains those
    that are not finished, from the beginning.
    """

    out: Path
    """Folder of the policy, its record (training.json) and TensorBoard events."""
    env_id: tyro.conf.UseAppendAction[tuple[str, ...]]
    """Gymnasium id, with its arguments if it takes some: `"tdm/WalkerTree-v0 dof=12 body=3"`. Repeat the
    option for several."""
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
    record: bool = False
    """Keep every policy that is evaluated (policies/), all episodes of training as a Minari data set
    (replay/data), and the policy and the data of a third of the way to the best return (medium.zip,
    medium-replay/data)."""
    threads: int = 1
    """Threads of torch; more threads than idle cores are many times slower."""
    hands: Hands = field(default_factory=PoolOptions)


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
    command.hands.check()
    if not command.env_id:
        raise WrongValueError("no environment: pass --env-id")
    output_folder(command.out)
    from tdm_agents.cli.checks import usable_device
    from tdm_agents.collection.collection_manifest import default_name
    from tdm_agents.experts.training_jobs import TrainingJob

    usable_device(command.device)
    envs = [EnvRef.parse(text) for text in command.env_id]
    folders = [command.out / default_name(env) if len(envs) > 1 else command.out for env in envs]
    if len(set(folders)) < len(folders):
        raise WrongValueError("policies are told apart by their environments; one is given twice")
    jobs = [
        TrainingJob(_training(command, env), folder, command.out, command.threads)
        for env, folder in zip(envs, folders, strict=True)
    ]
    keep_config(command, "experts train", command.out)
    if len(jobs) > 1 or command.hands.side_by_side:
        _train_side_by_side(command, jobs)
    else:
        _train_here(command, jobs[0].training)


def _training(command: Train, env: EnvRef) -> Training:
    from tdm_agents.experts.reinforcement import Training

    return Training(
        env=env,
        algorithm=command.algorithm,
        settings=parse_settings(command.settings),
        steps=command.steps,
        cpu_seconds=None if command.cpu_minutes is None else 60.0 * command.cpu_minutes,
        num_envs=command.num_envs,
        evaluate_every=command.evaluate_every,
        evaluation_episodes=command.evaluation_episodes,
        seed=command.seed,
        device=command.device,
        record=command.record,
    )


def _train_here(command: Train, training: Training) -> None:
    """Train one policy in this process."""
    import torch

    from tdm_agents.experts.reinforcement import BEST_FILE, train
    from tdm_agents.remarks import remark

    torch.set_num_threads(command.threads)
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


def _train_side_by_side(command: Train, jobs: list[TrainingJob]) -> None:
    """Train policies in other processes."""
    from tdm_agents.collection.workers import one_thread
    from tdm_agents.evaluation.progress_bar import counting
    from tdm_agents.experts.reinforcement import BEST_FILE
    from tdm_agents.experts.training_jobs import train_job
    from tdm_agents.remarks import remarks

    console = remarks()
    done: list[str] = []
    try:
        with (
            command.hands.opened(one_thread, telling(console)) as pool,
            counting(len(jobs), console) as count,
        ):
            for trained in pool.imap_unordered(train_job, jobs):
                done.append(f"{trained.job}: {_kept(trained.found, trained.job.folder / BEST_FILE)}")
                count(str(trained.job))
    except KeyboardInterrupt:
        print(
            f"Stopped. {len(done)} of {len(jobs)} policies are finished in {command.out}; the same command "
            "trains the others, from the beginning."
        )
        raise SystemExit(130) from None
    print("\n".join(sorted(done)))


def _kept(found: list[Evaluated], path: Path) -> str:
    if not found:
        return "Nothing was evaluated yet, and nothing is kept."
    best = max(found, key=lambda one: one.mean_return)
    return f"Mean return {best.mean_return:.1f} after {best.steps:,} steps is kept in {path}."
