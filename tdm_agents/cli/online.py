"""``tdm online``: a world model that learns an environment from nothing, by acting in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from tdm_agents.agent.agent_files import settings_of
from tdm_agents.cli.checks import output_folder, own_run_folder, tell_endless, usable_device
from tdm_agents.cli.config_file import keep_config
from tdm_agents.cli.imports import import_modules
from tdm_agents.cli.online_options import Online
from tdm_agents.cli.online_refusals import refuse_unplannable, refuse_useless
from tdm_agents.cli.training_table import online_table
from tdm_agents.data.mixture import by_environment
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import EnvRef, known_name
from tdm_agents.errors import WrongValueError
from tdm_agents.json_text import plain_number
from tdm_agents.online import acting
from tdm_agents.online.curve import begun
from tdm_agents.online.online_config import OnlineConfig
from tdm_agents.online.online_trainer import OnlineResult, train_online
from tdm_agents.protocols import ModelSpec, Planner, Preset, TrainableModel, reads_images
from tdm_agents.remarks import remarks
from tdm_agents.settings_text import parse_settings
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.spaces.observations import difference
from tdm_agents.spaces.scalar_names import observation_names
from tdm_agents.spaces.spec_json import spec_to_json
from tdm_agents.storage import locked, read_json
from tdm_agents.training import run_file, run_state
from tdm_agents.training.model_choice import (
    chosen_planner,
    chosen_preset,
    load_trained,
    trainable_class,
    with_settings,
)
from tdm_agents.training.process import keep_freed_memory
from tdm_agents.world_models.learned import identity
from tdm_agents.world_models.model_files import MODEL_FILE, weights_sha256

ONE, SEVERAL = "tdmpc2", "tdmpc2-multitask"
"""The models of one environment and of several, where --model is not given."""
PIXELS = "tdm/Pixels-v0"


def run(args: Online, *, console: Console | None = None) -> OnlineResult:
    """Do what ``tdm online`` says.

    Raises:
        ValueError: If ``args.out`` cannot be written to or holds another run or other files, or a setting or
            space makes no sense.
        DataError: If the data are missing or damaged.
        CheckpointError: If ``args.init_from`` is not a model that fits.
        LookupError: If there is no such planner, world model, preset or environment.
        PluginError: If the package that provides one of them cannot be used.
        TrainingError: If a loss or gradient is not finite.
        FolderInUseError: If another process writes to ``args.out``.
        SystemExit: On Ctrl-C, with code 130, after saying how to go on.
    """
    keep_freed_memory()
    results = console if console is not None else Console()
    console = console if console is not None else remarks()
    import_modules(args.import_)
    name = args.model or (ONE if len(args.env_id) == 1 else SEVERAL)
    kind = trainable_class(name)
    if hasattr(kind, "return_discount"):  # of `ReadsReturns`, whose subclasses cannot be asked for
        raise WrongValueError(
            f"--model is {name!r}, which learns from the returns of recorded episodes; use `tdm train`, or "
            "another model"
        )
    preset = chosen_preset(name, kind, args.preset)
    config = with_settings(f"world model {name!r}", preset.config, parse_settings(args.model_settings))
    of_planner = parse_settings(args.planner_settings)
    planner = chosen_planner(preset, args.planner, of_planner)
    refuse_useless(args, config)
    device = usable_device(args.device)
    repeat = args.action_repeat if args.action_repeat is not None else preset.action_repeat
    if repeat < 1:
        raise WrongValueError(f"--action-repeat is {repeat}; expected at least 1")
    envs = environments(args, repeat)
    # what cannot be planned over is refused now
    specs = {env.name: _spec(env, kind, repeat, args.training, console) for env in envs}
    output_folder(args.out)
    own_run_folder(args.out, "tdm online")
    with locked(args.out):
        _forget_refused_start(args.out)
        data = _data(args.data, specs)
        source = load_trained(args.init_from) if args.init_from is not None else None
        ends = {env.name: _ends(args, env, data.get(env.name), source) for env in envs}
        specs = {name: replace(spec, terminates=ends[name]) for name, spec in specs.items()}
        model = kind.build(specs, config, seed=args.training.seed, source=source)
        model.to(device)
        if not run_state.exists(args.out):
            refuse_unplannable(model, planner, specs)
        run_file.claim(
            args.out, _description(args, name, preset, envs, model, planner, data), kind.config_type()
        )
        keep_config(args, "online", args.out)
        for env in envs:
            ending = "ends that are learned" if ends[env.name] else "no ends (--terminates where it has some)"
            console.print(f"{env}: {model.summary()}; {ending}", highlight=False)
        result = train_online(
            model,
            envs,
            planner,
            args.training,
            args.out,
            weights=args.weights,
            data=data,
            trained=source is not None,
            own_discount="discount" in of_planner,
            console=console,
        )
    if result.interrupted:
        raise SystemExit(130)  # as shells report Ctrl-C
    if (table := online_table(result)) is not None:
        results.print(table)
    which = ("", "") if len(envs) == 1 else (", env_id=...", " --env-id ...")
    results.print(
        f"the agent is in {args.out}: TDMAgent.load({str(args.out)!r}{which[0]}), or tdm evaluate "
        f"--checkpoint {args.out}{which[1]}; curves: {args.out / 'curve.json'} and tensorboard --logdir "
        f"{args.out}",
        soft_wrap=True,
    )
    return result


def environments(args: Online, repeat: int) -> list[EnvRef]:
    """The environments that ``args`` names.

    Raises:
        ValueError: If there is none, or one stands twice.
    """
    envs = [EnvRef.parse(text) for text in args.env_id]
    if args.pixels:
        envs = [EnvRef(PIXELS, {"env": env.id, "every": repeat, **env.kwargs}, env.module) for env in envs]
    if not envs or len({env.name for env in envs}) < len(envs):
        raise WrongValueError(
            f"--env-id is {', '.join(args.env_id) or 'not given'}; expected at least one environment, and "
            "none twice"
        )
    return envs


def _spec(
    env: EnvRef, kind: type[TrainableModel], repeat: int, training: OnlineConfig, console: Console
) -> ModelSpec:
    """The spec of an environment's model, but for its ends."""
    made = env.make()
    try:
        tell_endless(str(env), made, training.max_steps, console.print)
        return spec_of(
            made.observation_space,
            made.action_space,
            action_repeat=repeat,
            observation_names=observation_names(made),
            images=reads_images(kind),
        )
    finally:
        made.close()


def _description(
    args: Online,
    name: str,
    preset: Preset,
    envs: Sequence[EnvRef],
    model: TrainableModel,
    planner: Planner,
    data: Mapping[str, Trajectories],
) -> dict[str, Any]:
    """What must be the same when the run goes on, as JSON."""
    several = len(envs) > 1
    settings = settings_of(planner, None, None).planner_settings
    description: dict[str, Any] = {
        "schema": run_file.SCHEMA,
        "online": [str(env) for env in envs] if several else str(envs[0]),
        "model": name,
        "config": identity(model.config),
        "environments": {env.name: spec_to_json(model.environment(env.name).spec) for env in envs},
        "planner": {"name": args.planner or preset.planner, "settings": settings},
    }
    if several:
        description["weights"] = args.weights
    if data:
        description["data"] = [digest for one in data.values() for digest in one.info.source]
    if args.init_from is not None:
        description["init_from"] = weights_sha256(args.init_from)
    plain: dict[str, Any] = json.loads(json.dumps(description, default=plain_number))
    return plain


def _data(sources: tuple[Path, ...], specs: Mapping[str, ModelSpec]) -> dict[str, Trajectories]:
    """The given data, by environment, of the environments' spaces.

    Of one environment they are, whatever they say; of several they say which.
    """
    if not sources:
        return {}
    repeat = next(iter(specs.values())).action_repeat
    every = Trajectories.each_from_minari(list(sources), action_repeat=repeat)
    one_environment = len(specs) == 1
    data = {next(iter(specs)): Trajectories.concatenate(every)} if one_environment else by_environment(every)
    for env, one in data.items():
        if (known := known_name(env, specs)) is None:
            raise WrongValueError(
                f"--data holds episodes of {env}; expected some of {', '.join(specs)}: leave them out, or "
                "name the environment (--env-id)"
            )
        for name in ("observation_space", "action_space"):
            if found := difference(getattr(one.info, name), getattr(specs[known], name), name):
                there = found.replace("the model", "the data")
                raise WrongValueError(f"--data {sources[0]}: {there}; pass data of this environment")
    return {known: one for env, one in data.items() if (known := known_name(env, specs)) is not None}


def _forget_refused_start(folder: Path) -> None:
    """Remove the description that a start left which was refused later: nothing in the folder is of it."""
    path = folder / run_file.RUN_FILE
    if not path.exists() or run_state.exists(folder) or begun(folder) or (folder / MODEL_FILE).exists():
        return
    if "online" in read_json(path, schema=run_file.SCHEMA):
        path.unlink()


def _ends(args: Online, env: EnvRef, data: Trajectories | None, source: TrainableModel | None) -> bool:
    """Whether the model learns that episodes terminate; one that goes on from another as that one did."""
    if args.terminates is not None:
        return args.terminates
    if (known := _known_ends(args.out, env)) is not None:
        return known
    if source is not None:
        names = getattr(source, "environments", (None,))  # of a model of several
        return any(source.environment(name).spec.terminates for name in names)
    return (data is not None and data.terminates) or acting.terminates(_undrawn(env), args.training)


def _undrawn(env: EnvRef) -> EnvRef:
    """The environment inside ``tdm/Pixels-v0``, whose steps need no pictures; any other as it is."""
    if env.id != PIXELS:
        return env
    drawing = {"env", "size", "frames", "every"}
    own = {name: value for name, value in env.kwargs.items() if name not in drawing}
    return EnvRef(str(env.kwargs["env"]), own, env.module)


def _known_ends(folder: Path, env: EnvRef) -> bool | None:
    """Whether the run in a folder found that the environment ends episodes; None where there is none."""
    if not run_file.exists(folder):
        return None
    there = read_json(folder / run_file.RUN_FILE, schema=run_file.SCHEMA)
    environments = there.get("environments")
    spec = environments.get(env.name) if isinstance(environments, dict) else None
    ends = spec.get("terminates") if isinstance(spec, dict) else None
    return ends if isinstance(ends, bool) else None
