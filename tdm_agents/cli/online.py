"""``tdm online``: a world model that learns an environment from nothing, by acting in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from tdm_agents.agent.agent_files import settings_of
from tdm_agents.cli.checks import output_folder, own_run_folder, tell_endless, usable_device
from tdm_agents.cli.config_file import keep_config
from tdm_agents.cli.imports import import_modules
from tdm_agents.cli.online_options import Online
from tdm_agents.cli.training_table import online_table
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import EnvRef
from tdm_agents.errors import WrongValueError
from tdm_agents.json_text import plain_number
from tdm_agents.online import acting
from tdm_agents.online.online_trainer import OnlineResult, train_online
from tdm_agents.protocols import ModelSpec, Planner, Preset
from tdm_agents.registry import make_planner
from tdm_agents.remarks import remarks
from tdm_agents.settings_text import parse_settings
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.spaces.observations import difference
from tdm_agents.spaces.scalar_names import observation_names
from tdm_agents.spaces.spec_json import spec_to_json
from tdm_agents.storage import locked, read_json
from tdm_agents.training import run_file
from tdm_agents.training.model_choice import chosen_preset, load_trained, trainable_class, with_settings
from tdm_agents.world_models.learned import identity
from tdm_agents.world_models.model_files import weights_sha256


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
    results = console if console is not None else Console()
    console = console if console is not None else remarks()
    import_modules(args.import_)
    kind = trainable_class(args.model)
    preset = chosen_preset(args.model, kind, args.preset)
    what = f"world model {args.model!r}"
    config = with_settings(what, preset.config, parse_settings(args.model_settings))
    planner = planner_of(args, preset)
    device = usable_device(args.device)
    env = EnvRef.parse(args.env_id)
    repeat = args.action_repeat if args.action_repeat is not None else preset.action_repeat
    if repeat < 1:
        raise WrongValueError(f"--action-repeat is {repeat}; expected at least 1")
    made = env.make()
    tell_endless(str(env), made, args.training.max_steps, console.print)
    spaces, names = (made.observation_space, made.action_space), observation_names(made)
    made.close()
    spec = spec_of(
        *spaces, action_repeat=repeat, observation_names=names
    )  # what cannot be planned over is refused now
    output_folder(args.out)
    own_run_folder(args.out, "tdm online")
    with locked(args.out):
        data = _data(args.data, spec)
        source = load_trained(args.init_from) if args.init_from is not None else None
        ends = _ends(args, env, data)
        spec = replace(spec, terminates=ends)
        model = kind.build({env.name: spec}, config, seed=args.training.seed, source=source)
        planner_settings = settings_of(planner, None, None).planner_settings
        description: dict[str, Any] = {
            "schema": run_file.SCHEMA,
            "online": str(env),
            "model": args.model,
            "config": identity(config),
            "environments": {env.name: spec_to_json(model.environment(None).spec)},
            "planner": {"name": args.planner or preset.planner, "settings": planner_settings},
        }
        if data is not None:
            description["data"] = list(data.info.source)
        if args.init_from is not None:
            description["init_from"] = weights_sha256(args.init_from)
        run_file.claim(
            args.out, json.loads(json.dumps(description, default=plain_number)), model.config_type()
        )
        keep_config(args, "online", args.out)
        ending = "ends that are learned" if ends else "no ends (--terminates where it has some)"
        console.print(f"{env}: {model.summary()}; {ending}", highlight=False)
        result = train_online(
            model.to(device),
            env,
            planner,
            args.training,
            args.out,
            data=data,
            trained=source is not None,
            console=console,
        )
    if result.interrupted:
        raise SystemExit(130)  # as shells report Ctrl-C
    if (table := online_table(result)) is not None:
        results.print(table)
    results.print(
        f"the agent is in {args.out}: TDMAgent.load({str(args.out)!r}), or tdm evaluate --checkpoint "
        f"{args.out}; curves: {args.out / 'curve.json'} and tensorboard --logdir {args.out}",
        soft_wrap=True,
    )
    return result


def planner_of(args: Online, preset: Preset) -> Planner:
    """The preset's planner, or the one that ``args`` names, with the settings that ``args`` has.

    Raises:
        LookupError: If there is no such planner.
        TypeError: If it has no such setting.
        ValueError: If a setting makes no sense.
    """
    own = args.planner is None or args.planner == preset.planner
    settings = dict(preset.planner_settings) if own else {}
    return make_planner(
        args.planner or preset.planner, **{**settings, **parse_settings(args.planner_settings)}
    )


def _data(sources: tuple[Path, ...], spec: ModelSpec) -> Trajectories | None:
    """The given data, of the environment's spaces."""
    if not sources:
        return None
    data = Trajectories.from_minari(list(sources), action_repeat=spec.action_repeat)
    for name in ("observation_space", "action_space"):
        if found := difference(getattr(data.info, name), getattr(spec, name), name):
            there = found.replace("the model", "the data")
            raise WrongValueError(f"--data {sources[0]}: {there}; pass data of this environment")
    return data


def _ends(args: Online, env: EnvRef, data: Trajectories | None) -> bool:
    """Whether the model learns that episodes terminate."""
    if args.terminates is not None:
        return args.terminates
    if (known := _known_ends(args.out, env)) is not None:
        return known
    return (data is not None and data.terminates) or acting.terminates(env, args.training)


def _known_ends(folder: Path, env: EnvRef) -> bool | None:
    """Whether the run in a folder found that the environment ends episodes; None where there is none."""
    if not run_file.exists(folder):
        return None
    there = read_json(folder / run_file.RUN_FILE, schema=run_file.SCHEMA)
    environments = there.get("environments")
    spec = environments.get(env.name) if isinstance(environments, dict) else None
    ends = spec.get("terminates") if isinstance(spec, dict) else None
    return ends if isinstance(ends, bool) else None
