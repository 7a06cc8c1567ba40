"""``tdm train``: a world model from Minari data sets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, cast

import torch
import tyro
from rich.console import Console

from tdm_agents.agent.agent_files import AgentSettings, settings_of, write_settings
from tdm_agents.cli.checks import output_folder, usable_device
from tdm_agents.data.mixture import MixtureSampler, by_environment, shares
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.data.windows import WindowSampler
from tdm_agents.environments import EnvRef
from tdm_agents.presets import PRESETS
from tdm_agents.settings_text import parse_settings
from tdm_agents.spaces.spec_json import spec_to_json
from tdm_agents.storage import foreign_file, locked, read_json, write_json
from tdm_agents.training import checkpoint
from tdm_agents.training.config import TrainConfig
from tdm_agents.training.held_out import Learner
from tdm_agents.training.initial import (
    TRANSFORMER,
    Learned,
    Transformer,
    differences,
    load_trained,
    new_other,
    new_transformer,
    start_from,
    with_context,
)
from tdm_agents.training.learners import learner_class
from tdm_agents.training.trainer import TrainResult, train
from tdm_agents.world_models.mlp import MLPConfig
from tdm_agents.world_models.transformer.generalist import Generalist
from tdm_envs.rewards import known_rewards

SCHEMA = 1
RUN_FILE = "run.json"


@dataclass(frozen=True)
class Train:
    """Train a world model. The same command again goes on where it stopped.

    Attributes:
        data: Minari data sets (folders or ids), or folders with an index of several. A transformer learns all
            their environments at once, other models a single one.
        out: Folder of the run: checkpoints, TensorBoard events and, at the end, the model.
        model: Kind of world model: ``transformer``, ``mlp``, or one of an installed plug-in.
        preset: Size and tokens of a transformer, and what ``action_repeat`` and ``planner`` are by default. A
            context that is smaller than a step of the largest environment becomes three such steps.
        mlp: Size of an MLP.
        model_settings: Settings of a plug-in's world model, as pairs of name and value: ``ridge 1e-4``.
        action_repeat: Environment steps a decision; the preset's by default.
        weights: How much of the training each of several environments gets, as pairs of name and number; by
            default as much as it has transitions.
        max_observation: Largest observation that a transformer has room for, for environments that come
            later; by default the largest of the data.
        max_action: Likewise the largest action.
        init_from: Folder of a trained model to start from: the same kind and size, and the same spaces unless
            its tokens need no data.
        held_out_fraction: Episodes of each environment kept for evaluation.
        data_seed: Of the held-out choice and of the order of the training windows.
        device: Where to train, for example ``cpu`` or ``cuda``.
        planner: Planner that ``agent.json`` names, so that the folder can be evaluated and loaded at once;
            the preset's by default.
        known_reward: Whether ``agent.json`` names the task's own reward function, where ``tdm_envs`` has it
            and there is one task; otherwise the agent maximises the predicted reward.
        training: Updates, learning rate, evaluation.
    """

    data: tuple[Path, ...]
    out: Path
    model: str = "transformer"
    preset: Literal[tuple(PRESETS)] = "small"  # type: ignore[valid-type]
    mlp: MLPConfig = field(default_factory=MLPConfig)
    model_settings: dict[str, str] = field(default_factory=dict)
    action_repeat: int | None = None
    weights: dict[str, float] = field(default_factory=dict)
    max_observation: int | None = None
    max_action: int | None = None
    init_from: Path | None = None
    held_out_fraction: float = 0.05
    data_seed: int = 0
    device: str = "cpu"
    planner: str | None = None
    known_reward: bool = True
    training: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)


def run(args: Train, *, console: Console | None = None) -> TrainResult:
    """Do what ``tdm train`` says.

    Raises:
        DataError: If the data are missing or do not fit together.
        ValueError: If ``args.out`` cannot be written to or holds another run or other files, or a setting
            makes no sense.
        LookupError: If there is no such planner or world model.
        PluginError: If the package that provides one of them cannot be used.
        CheckpointError: If ``args.init_from`` is not a model that fits.
        TrainingError: If a loss or gradient is not finite.
        FolderInUseError: If another process writes to ``args.out``.
        SystemExit: On Ctrl-C, with code 130, after saying how to go on.
    """
    console = console if console is not None else Console(stderr=True)
    PRESETS[args.preset].make_planner(args.planner)  # an unknown name fails now, not after the training
    _check_model(args)
    device = usable_device(args.device)
    output_folder(args.out)
    _check_ours(args.out)
    with locked(args.out):  # before data are read, which may take minutes
        result = _train(args, device, console)
    if result.interrupted:
        raise SystemExit(130)  # as shells report Ctrl-C, so that `tdm train && ...` stops too
    return result


def _train(args: Train, device: torch.device, console: Console) -> TrainResult:
    """Read, train and write in ``args.out``, which this process holds."""
    data = _data(args)
    split = {name: t.split(args.held_out_fraction, args.data_seed) for name, t in data.items()}
    training = {name: kept for name, (kept, _) in split.items()}
    held_out = {name: out for name, (_, out) in split.items()}
    model = _model(args, training)
    portions = shares(training, args.weights or None)
    _claim(args, data, model, portions)
    for name, kept in training.items():
        console.print(
            f"{kept.num_decisions:,} decisions in {kept.num_episodes} episodes to train on, "
            f"{held_out[name].num_episodes} held out"
            + (f": {name}, {portions[name]:.0%} of the training" if len(data) > 1 else ""),
            highlight=False,
        )
    told = f"{sum(p.numel() for p in model.parameters()):,} parameters"
    if isinstance(model, Transformer):
        told += f", a context of {model.config.context:,} tokens"
    console.print(told, highlight=False)
    learner = cast(Learner, model.to(device))
    windows = {"steps": args.training.window_steps, "batch_size": args.training.batch_size}
    if len(data) > 1:
        mixture = MixtureSampler(training, weights=portions, seed=args.data_seed, **windows)
        result = train(learner, mixture, held_out, args.training, args.out, held=True, console=console)
    else:
        (name,) = data
        sampler = WindowSampler(training[name], seed=args.data_seed, **windows)
        result = train(learner, sampler, held_out[name], args.training, args.out, held=True, console=console)
    if result.interrupted:
        return result
    envs = [EnvRef.of_data(t.info) for t in data.values()]
    write_settings(args.out, agent_settings(args, envs[0] if len(envs) == 1 else None))
    if len(data) == 1:
        console.print(
            f"the agent is in {args.out}: TDMAgent.load({str(args.out)!r}), or "
            f"tdm evaluate --checkpoint {args.out}; curves: tensorboard --logdir {args.out}"
        )
    else:
        console.print(
            f"the generalist is in {args.out}: TDMAgent.load({str(args.out)!r}, env_id=...), or "
            f"tdm evaluate --checkpoint {args.out} --env-id ...; fine-tune it with tdm train --init-from "
            f"{args.out}; curves: tensorboard --logdir {args.out}"
        )
    return result


def agent_settings(args: Train, env: EnvRef | None) -> AgentSettings:
    """How to plan with what was trained.

    Args:
        args: Of the command.
        env: The environment, None where it is unknown or there are several.

    Raises:
        LookupError: If there is no such planner.
    """
    planner = PRESETS[args.preset].make_planner(args.planner)
    known = args.known_reward and env is not None and env.id in known_rewards()
    return settings_of(planner, env.id if known and env else None, None if env is None else str(env))


def _data(args: Train) -> dict[str, Trajectories]:
    """All episodes by environment."""
    repeat = args.action_repeat if args.action_repeat is not None else PRESETS[args.preset].action_repeat
    return by_environment(Trajectories.each_from_minari(list(args.data), action_repeat=repeat))


def _model(args: Train, training: dict[str, Trajectories]) -> Learned:
    """What is trained, as it is before the first update."""
    source = load_trained(args.model, args.init_from) if args.init_from is not None else None
    seed = args.training.seed
    model: Learned
    if args.model == TRANSFORMER:
        # a model that begins with another's weights has its context, and its room unless another is asked for
        own = PRESETS[args.preset].transformer
        room = source.config if source is not None else own
        config = replace(
            own,
            context=room.context,
            max_observation=args.max_observation or room.max_observation,
            max_action=args.max_action or room.max_action,
        )
        if source is None:
            config = with_context(config, training)
        model = new_transformer(training, config, seed=seed)
    else:
        settings = asdict(args.mlp) if args.model == "mlp" else parse_settings(args.model_settings)
        model = new_other(args.model, training, settings, seed=seed)
    if source is not None:
        start_from(model, source, list(training))
    return model


def _check_model(args: Train) -> None:
    """Refuse a name or settings of a world model before any data are read."""
    if args.model_settings and args.model in (TRANSFORMER, "mlp"):
        option = "--mlp.hidden and --mlp.layers" if args.model == "mlp" else "--preset"
        raise ValueError(f"--model-settings are for plug-ins; {args.model} has {option} instead")
    if args.model != TRANSFORMER:
        if args.max_observation is not None or args.max_action is not None:
            raise ValueError(
                f"--max-observation and --max-action are for a {TRANSFORMER}; a model of kind {args.model!r} "
                "is of one environment: leave them out"
            )
        learner_class(args.model)


def _check_ours(folder: Path) -> None:
    """Refuse a folder that holds files but no run; what a killed start of one leaves is no obstacle."""
    if not folder.exists() or (folder / RUN_FILE).exists() or checkpoint.exists(folder):
        return
    found = foreign_file(folder)
    if found is not None:
        raise ValueError(
            f"--out {folder} holds {found!r} and no run of tdm train; choose another --out, "
            "or empty this folder"
        )


def _claim(args: Train, data: dict[str, Trajectories], model: Learned, portions: dict[str, float]) -> None:
    """Write down what the run in ``args.out`` is, or check that it is this one."""
    init_from = None
    if args.init_from is not None:
        init_from = read_json(args.init_from / "model.json", schema=1)["sha256"]
    description = {
        "schema": SCHEMA,
        "data": [digest for t in data.values() for digest in t.info.source],
        "model": args.model,
        "config": asdict(model.config),
        "init_from": init_from,
        "held_out_fraction": args.held_out_fraction,
        "data_seed": args.data_seed,
    }
    if isinstance(model, Generalist):
        specs = {name: spec_to_json(model.environment(name).spec) for name in model.environments}
        description |= {"environments": specs, "shares": portions}
    else:
        description["spec"] = spec_to_json(model.spec)
    path = args.out / RUN_FILE
    if not path.exists():
        write_json(path, description)
        return
    found = differences(read_json(path, schema=SCHEMA), description)
    if found:
        raise ValueError(
            f"{args.out} holds another run: {found[0]}; go on with its own settings, or choose another --out"
        )
