"""``tdm train``: a world model learned from Minari data sets, by one process or by several of torchrun's."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from itertools import islice

import torch
from rich.console import Console

from tdm_agents.agent.agent_files import AgentSettings, settings_of, write_settings
from tdm_agents.agent.discounts import discounted, undecided
from tdm_agents.cli.checks import output_folder, own_run_folder, usable_device
from tdm_agents.cli.config_file import keep_config
from tdm_agents.cli.train_options import Train
from tdm_agents.cli.verdicts import say_and_keep
from tdm_agents.data.mixture import MixtureSampler, by_environment, shares
from tdm_agents.data.returns import as_read_by
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.data.windows import WindowSampler
from tdm_agents.environments import EnvRef
from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Planner, Preset, Suggests, TrainableModel
from tdm_agents.remarks import remarks
from tdm_agents.settings_text import parse_settings
from tdm_agents.storage import locked
from tdm_agents.training import run_file
from tdm_agents.training.dividing import DividingSampler, check_dividing
from tdm_agents.training.held_out import Evaluator
from tdm_agents.training.model_choice import (
    chosen_planner,
    chosen_preset,
    load_trained,
    trainable_class,
    with_settings,
)
from tdm_agents.training.process import keep_freed_memory
from tdm_agents.training.suiting import evaluated, fitting_evaluation, long_histories, within_episodes
from tdm_agents.training.team import Team, launched, local_rank, processes
from tdm_agents.training.trainer import TrainResult, train
from tdm_envs.rewards import known_rewards

ONE, SEVERAL = "transformer", "generalist"
"""The models of one environment and of several, where --model is not given."""
_LISTED = 20
"""Environments whose data are said on a line each."""


def run(args: Train, *, console: Console | None = None) -> TrainResult:
    """Do what ``tdm train`` says.

    Raises:
        DataError: If the data are missing or do not fit together.
        ValueError: If ``args.out`` cannot be written to or holds another run or other files, or a setting
            makes no sense.
        LookupError: If there is no such planner, world model or preset.
        PluginError: If the package that provides one of them cannot be used.
        CheckpointError: If ``args.init_from`` is not a model that fits.
        TrainingError: If a loss or gradient is not finite.
        FolderInUseError: If another process writes to ``args.out``.
        LostProcessError: If another process of torchrun's ended, or does not answer.
        SystemExit: On Ctrl-C or SIGTERM, with code 130, after saying how to go on.
    """
    keep_freed_memory()
    results = console if console is not None else Console()
    console = console if console is not None else remarks()
    # misspelt names fail now, not after reading data or training
    kind = trainable_class(args.model or ONE)
    preset = chosen_preset(args.model or ONE, kind, args.preset)
    planner_of(args, preset)
    configuration(args, preset)
    check_dividing(kind, args.training, processes(), shard=args.shard)
    device = usable_device(own_device(args.device))
    with launched(device, wait_minutes=args.wait_minutes) as team:
        if team.first:
            output_folder(args.out)
            own_run_folder(args.out, "tdm train")
        else:
            console = Console(quiet=True)
        # locked before data are read, which may take minutes
        with locked(args.out) if team.first else nullcontext():
            result = _train(args, preset, device, console, results, team)
    if result.interrupted:
        raise SystemExit(130)  # as shells report Ctrl-C, so that `tdm train && ...` stops too
    return result


def own_device(name: str) -> str:
    """The device of this process: ``cuda`` is the GPU of its number where torchrun has started several."""
    return f"cuda:{local_rank()}" if name == "cuda" and processes() > 1 else name


def _train(
    args: Train, preset: Preset, device: torch.device, console: Console, results: Console, team: Team
) -> TrainResult:
    """Read the data, train, and write to ``args.out``, which the first process has locked."""
    repeat = args.action_repeat if args.action_repeat is not None else preset.action_repeat
    with team.one_per_machine_first():
        data = by_environment(Trajectories.each_from_minari(list(args.data), action_repeat=repeat))
    if args.terminal_reward:
        data = {name: _with_terminal_reward(t, args.terminal_reward) for name, t in data.items()}
    split = {name: t.split(args.held_out_fraction, args.data_seed) for name, t in data.items()}
    training = {name: kept for name, (kept, _) in split.items()}
    held_out = {name: out for name, (_, out) in split.items()}
    name = args.model or (ONE if len(data) == 1 else SEVERAL)
    model, told = _model(args, name, preset, training, fits=team.first)
    training, held_out = as_read_by(model, training), as_read_by(model, held_out)
    portions = shares(training, args.weights or None)
    planner, *others = (discounted(planner_of(args, preset), model.environment(name)) for name in data)
    differ = any(other != planner for other in others)  # in their discounts
    if args.suit_sizes:
        planner, horizon_told = within_episodes(planner, data)
        fitting, held_out_told = fitting_evaluation(args.training, held_out)
        args = replace(args, training=fitting)
        told = [*told, *horizon_told, *held_out_told]
    watched, watched_told = evaluated(args.training, held_out)
    told = [*told, *watched_told, *long_histories(model, args.training, data)]
    team.wait()  # all have seen the folder as it was
    if team.first:
        Evaluator(watched, args.training)  # what the held-out episodes do not allow is told before a run
        run_file.claim(
            args.out,
            run_file.describe(
                model,
                name=name,
                data=data,
                shares=portions,
                init_from=args.init_from,
                held_out_fraction=args.held_out_fraction,
                data_seed=args.data_seed,
                terminal_reward=args.terminal_reward,
            ),
            model.config_type(),
        )
        keep_config(args, "train", args.out)
    for environment, kept in islice(training.items(), _LISTED):
        console.print(
            f"{kept.num_decisions:,} decisions in {kept.num_episodes} episodes to train on, "
            f"{held_out[environment].num_episodes} held out"
            + (f": {environment}, {portions[environment]:.0%} of the training" if len(data) > 1 else ""),
            highlight=False,
        )
    if len(training) > _LISTED:
        console.print(f"and so for {len(training) - _LISTED:,} more environments", highlight=False)
    for line in told:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(model.summary(), highlight=False)
    size = args.training.batch_size * args.training.accumulate
    windows = {"steps": args.training.window_steps, "batch_size": size, "seed": args.data_seed}
    sampler: DividingSampler
    if len(data) > 1:
        sampler = MixtureSampler(training, weights=portions, **windows)
    else:
        (only,) = training.values()
        sampler = WindowSampler(only, **windows)
    result = train(
        model.to(device),
        sampler,
        watched,
        args.training,
        args.out,
        held=True,
        console=console,
        team=team,
        any_processes=args.any_processes,
        shard=args.shard,
    )
    if result.interrupted or not team.first:
        return result
    envs = [EnvRef.of_data(t.info) for t in data.values()]
    observes = all(model.environment(name).spec.imagines_observations for name in data)
    settings = agent_settings(args, planner, envs[0] if len(envs) == 1 else None, observes=observes)
    settings = undecided(settings) if differ else settings
    write_settings(args.out, settings)
    say_and_keep(
        args.out,
        model,
        watched,
        args.training,
        planner=planner,
        settings=settings,
        metrics=result.metrics,
        console=results,
    )
    if len(data) == 1:
        results.print(
            f"the agent is in {args.out}: TDMAgent.load({str(args.out)!r}), or "
            f"tdm evaluate --checkpoint {args.out}; curves: tensorboard --logdir {args.out}",
            soft_wrap=True,
        )
    else:
        results.print(
            f"the generalist is in {args.out}: TDMAgent.load({str(args.out)!r}, env_id=...), or "
            f"tdm evaluate --checkpoint {args.out} --env-id ...; fine-tune it with tdm train --init-from "
            f"{args.out}; curves: tensorboard --logdir {args.out}",
            soft_wrap=True,
        )
    return result


def _with_terminal_reward(data: Trajectories, reward: float) -> Trajectories:
    """The data where every end earned ``reward`` more.

    Raises:
        ValueError: If no episode was terminated.
    """
    if not data.terminates:
        raise WrongValueError(
            f"terminal_reward is {reward}, but no episode of {EnvRef.of_data(data.info)} was terminated; "
            "leave it out, or collect data with ends"
        )
    return data.with_terminal_reward(reward)


def planner_of(args: Train, preset: Preset) -> Planner:
    """The preset's planner, or the one that ``args`` names, with its defaults.

    Raises:
        LookupError: If there is no such planner.
    """
    return chosen_planner(preset, args.planner, {})


def configuration(args: Train, preset: Preset) -> object:
    """The preset's configuration, changed by ``args.model_settings``.

    Raises:
        TypeError: If there is no such setting, or a value is of another type.
        ValueError: If a value makes no sense.
    """
    what = f"world model {args.model or ONE!r}"
    return with_settings(what, preset.config, parse_settings(args.model_settings))


def agent_settings(
    args: Train, planner: Planner, env: EnvRef | None, *, observes: bool = True
) -> AgentSettings:
    """The settings of the agent that plans with the trained model.

    Args:
        args: The command.
        planner: What it plans with.
        env: The environment; None where it is unknown or there are several.
        observes: Whether the model imagines observations; if not, the agent plans for the predicted reward.
    """
    if env is None:
        return settings_of(planner, None, None)
    known = args.known_reward and observes and env.id in known_rewards()
    return settings_of(planner, env.id if known else None, str(env))


def _model(
    args: Train, name: str, preset: Preset, training: dict[str, Trajectories], *, fits: bool
) -> tuple[TrainableModel, list[str]]:
    """The model before the first update, and what was changed in its settings to suit the environments."""
    source = load_trained(args.init_from) if args.init_from is not None else None
    specs = {environment: data.spec for environment, data in training.items()}
    config, told, kind = configuration(args, preset), "", trainable_class(name)
    if args.suit_sizes and source is None and isinstance(kind, Suggests):
        suggested, why = kind.suggested(config, specs)
        chosen = {setting.replace("-", "_") for setting in args.model_settings}
        differs = any(getattr(config, f) != getattr(suggested, f) for f in chosen if "." not in f)
        if not differs and not run_file.goes_on_with(args.out, config, suggested):
            config, told = suggested, why
    model = kind.build(specs, config, seed=args.training.seed, source=source)
    if source is None and fits:  # what it fits is in its state, which the others take over
        model.fit(training)
    return model, [told] if told else []
