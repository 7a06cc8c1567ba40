"""``tdm distill``: a student learns from an agent that is too slow."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from tdm_agents.actors.agents import AgentFactory
from tdm_agents.actors.contestant import actor_of
from tdm_agents.actors.enter import Entered, enter, environment_of
from tdm_agents.actors.entries import Entry, parse_entry
from tdm_agents.agent import TDMAgent
from tdm_agents.agent.agent_files import settings_of
from tdm_agents.cli.checks import at_least, output_folder, own_run_folder, tell_endless, usable_device
from tdm_agents.cli.config_file import keep_config
from tdm_agents.cli.distill_options import Distill
from tdm_agents.cli.imports import import_modules
from tdm_agents.distillation.distiller import DistillResult, distill
from tdm_agents.environments import EnvRef
from tdm_agents.errors import WrongValueError
from tdm_agents.evaluation.as_json import plain
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.evaluation.report import make_report, table
from tdm_agents.json_text import plain_number
from tdm_agents.remarks import remarks
from tdm_agents.settings_text import parse_settings
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.spaces.scalar_names import observation_names
from tdm_agents.spaces.spec_json import spec_to_json
from tdm_agents.storage import hashes, locked, write_json
from tdm_agents.training import run_file
from tdm_agents.training.model_choice import chosen_planner, chosen_preset, trainable_class, with_settings
from tdm_agents.training.process import keep_freed_memory
from tdm_agents.world_models.learned import identity

REPORT_FILE = "distill.json"


def run(args: Distill, *, console: Console | None = None) -> DistillResult:
    """Do what ``tdm distill`` says.

    Raises:
        ValueError: If ``args.out`` cannot be written to or holds another run or other files, the student
            would imitate what is executed instead of the teacher, or a setting or space makes no sense.
        CheckpointError: If a file of the teacher is missing or altered.
        LookupError: If there is no such checkpoint, planner, world model, preset or environment.
        PluginError: If the package that provides one of them cannot be used.
        TrainingError: If a loss or gradient is not finite.
        FolderInUseError: If another process writes to ``args.out``.
        SystemExit: On Ctrl-C, with code 130, after saying how to go on.
    """
    keep_freed_memory()
    results = console if console is not None else Console()
    console = console if console is not None else remarks()
    import_modules(args.import_)
    at_least(0, report_episodes=args.report_episodes)
    kind: Any = trainable_class(args.student)
    if hasattr(kind, "propose") and not hasattr(kind, "imitates_examples"):
        raise WrongValueError(
            f"--student {args.student} would imitate the actions that are executed, not the teacher's; "
            "choose mlp_policy, or a model that imagines alone (mlp, pets)"
        )
    preset = chosen_preset(args.student, kind, args.preset)
    config = with_settings(
        f"world model {args.student!r}", preset.config, parse_settings(args.model_settings)
    )
    planner = chosen_planner(preset, args.planner, parse_settings(args.planner_settings))
    device = usable_device(args.device)
    entry = parse_entry(args.teacher)
    env = _environment(args, entry)
    teacher = enter(entry, env, seed=args.training.seed, device=args.device)
    output_folder(args.out)
    own_run_folder(args.out, "tdm distill")
    with locked(args.out):
        made = env.make()
        try:
            tell_endless(str(env), made, args.training.max_steps, console.print)
            repeat, ends = _learned_from(args, teacher, made)
            spec = spec_of(
                made.observation_space,
                made.action_space,
                action_repeat=repeat,
                observation_names=observation_names(made),
            )
        finally:
            made.close()
        model = kind.build({env.name: replace(spec, terminates=ends)}, config, seed=args.training.seed)
        description: dict[str, Any] = {
            "schema": run_file.SCHEMA,
            "distill": {
                "teacher": plain({**teacher.settings, "sha256": hashes(teacher.files)}),
                "env": str(env),
            },
            "model": args.student,
            "config": identity(config),
            "environments": {env.name: spec_to_json(model.environment(None).spec)},
            "planner": {
                "name": args.planner or preset.planner,
                "settings": settings_of(planner, None, None).planner_settings,
            },
        }
        run_file.claim(
            args.out, json.loads(json.dumps(description, default=plain_number)), model.config_type()
        )
        keep_config(args, "distill", args.out)
        console.print(f"{teacher.name} teaches {args.student}: {model.summary()}", highlight=False)
        result = distill(
            teacher.contestant, model.to(device), planner, env, args.training, args.out, console=console
        )
        if result.interrupted:
            raise SystemExit(130)  # as shells report Ctrl-C
        if args.report_episodes:
            _report(args, teacher, env)
    results.print(f"the student is in {args.out}: TDMAgent.load({str(args.out)!r})", soft_wrap=True)
    return result


def _environment(args: Distill, entry: Entry) -> EnvRef:
    """The environment that was asked for, or the teacher's own.

    Raises:
        ValueError: If neither is known.
    """
    if args.env_id is not None:
        return EnvRef.parse(args.env_id)
    if (known := environment_of(entry)) is None:
        raise WrongValueError(f"--teacher {args.teacher!r} names no environment: pass --env-id")
    return known


def _learned_from(args: Distill, teacher: Entered, made: Any) -> tuple[int, bool]:
    """Environment steps per decision, and whether episodes end, as the teacher's model has it."""
    contestant = teacher.contestant
    made.reset(seed=0)
    if isinstance(contestant, AgentFactory):
        contestant = contestant([made])
    actor = actor_of(contestant, [made], seed=0)
    known = actor.action_repeat
    if args.action_repeat is not None and known is not None and args.action_repeat != known:
        raise WrongValueError(
            f"--action-repeat is {args.action_repeat}, and the teacher decides every {known} environment "
            "steps; leave it out"
        )
    repeat = args.action_repeat if args.action_repeat is not None else known or 1
    if repeat < 1:
        raise WrongValueError(f"--action-repeat is {repeat}; expected at least 1")
    # a policy says nothing about ends: what its student imagines then has them if episodes show some
    ends = contestant.model.spec.terminates if isinstance(contestant, TDMAgent) else True
    return repeat, ends


def _report(args: Distill, teacher: Entered, env: EnvRef) -> None:
    """Let teacher and student play the same episodes; print the table and write ``distill.json``."""
    student = TDMAgent.load(args.out, seed=args.training.seed, device=args.device)
    reports = []
    for name, contestant in (("teacher: " + teacher.name, teacher.contestant), ("student", student)):
        played = evaluate(
            contestant, env, range(args.report_episodes), seed=0, max_steps=args.training.max_steps
        )
        settings = {"contestant": name, "seeds": list(range(args.report_episodes)), "env": str(env)}
        reports.append(make_report(name, played, settings=settings, weights=_weights(args.out, name)))
    Console().print(table(reports, title=str(env)))
    write_json(args.out / REPORT_FILE, {"schema": 1, "reports": reports})


def _weights(folder: Path, name: str) -> Path | None:
    return folder / "weights.safetensors" if name == "student" else None
