"""``tdm evaluate``: episodes on fixed seeds, batched, with a report that says how to repeat them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdm_agents.cli.checks import at_least, output_file, usable_device

if TYPE_CHECKING:
    from tdm_agents.agent import TDMAgent
    from tdm_agents.checkpoint import AgentSettings
    from tdm_agents.evaluation.players import AgentFactory, Policy


@dataclass(frozen=True)
class Evaluate:
    """Play episodes on fixed seeds with an agent, the true simulator, or random actions."""

    checkpoint: str | None = None
    """Name of a bundled checkpoint, or a folder."""
    env_id: str | None = None
    """Environment to play; the checkpoint's own if not given."""
    planner: str | None = None
    """Name of a planner (see `tdm planners`); the checkpoint's own if not given."""
    planner_settings: dict[str, str] = field(default_factory=dict)
    """The planner's settings, as pairs of name and value: `num-samples 64 horizon 25`."""
    replan_every: int | None = None
    """Decisions a plan; the checkpoint's own, or 1."""
    simulator: bool = False
    """Plan with the true dynamics instead of the checkpoint's model; its planner, settings, reward function
    and action repeat are used."""
    random: bool = False
    """Play uniformly random actions."""
    action_repeat: int | None = None
    """Environment steps a decision of the simulator; the checkpoint's own, or 1."""
    episodes: int = 10
    """Number of episodes."""
    seed_start: int = 0
    """Seed of the first episode; the others follow."""
    seed: int = 0
    """Seed of the agent."""
    batch: int | None = None
    """Episodes side by side; all if not given."""
    max_steps: int | None = None
    """Environment steps after which an episode is cut."""
    device: str = "cpu"
    """Where the model computes."""
    threads: int = 1
    """Threads of torch and of the simulator; more than there are idle cores is many times slower."""
    out: Path | None = None
    """Where to write the report (JSON)."""


def run(arguments: Evaluate) -> None:
    """Evaluate, print a table, and write the report."""
    _check(arguments)
    import torch
    from rich.console import Console

    from tdm_agents import checkpoint
    from tdm_agents.evaluation.episodes import evaluate
    from tdm_agents.evaluation.progress import ProgressBar
    from tdm_agents.evaluation.report import make_report, table, write_report

    usable_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    saved = folder = None
    if arguments.checkpoint is not None:
        folder = checkpoint.resolve(arguments.checkpoint)
        saved = checkpoint.read_settings(folder)
    env_id = arguments.env_id or (saved.env_id if saved else None)
    if env_id is None:
        raise ValueError("no environment: pass --env-id (the checkpoint names none)")
    label, contestant, chosen = _contestant(arguments, folder, saved, env_id)
    seeds = range(arguments.seed_start, arguments.seed_start + arguments.episodes)
    with ProgressBar(label) as progress:
        evaluation = evaluate(
            contestant,
            env_id,
            seeds,
            seed=arguments.seed,
            batch=arguments.batch,
            max_steps=arguments.max_steps,
            on_step=progress,
        )
    weights = (
        folder / "weights.safetensors" if folder and not (arguments.simulator or arguments.random) else None
    )
    settings = {
        **chosen,
        "seed": arguments.seed,
        "batch": arguments.batch,
        "max_steps": arguments.max_steps,
        "device": arguments.device,
    }
    report = make_report(label, evaluation, settings=settings, weights=weights)
    Console().print(table([report], title=env_id))
    if arguments.out is not None:
        write_report(arguments.out, report)
        print(f"report: {arguments.out}")


def parse_settings(texts: Mapping[str, str]) -> dict[str, Any]:
    """``{"num-samples": "64"}`` to ``{"num_samples": 64}``; values are JSON, or text where they are not."""
    parsed: dict[str, Any] = {}
    for name, text in texts.items():
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        parsed[name.replace("-", "_")] = value
    return parsed


def _check(arguments: Evaluate) -> None:
    at_least(
        1,
        episodes=arguments.episodes,
        threads=arguments.threads,
        batch=arguments.batch,
        max_steps=arguments.max_steps,
        action_repeat=arguments.action_repeat,
        replan_every=arguments.replan_every,
    )
    at_least(0, seed_start=arguments.seed_start)
    if arguments.simulator and arguments.random:
        raise ValueError("--simulator and --random exclude each other; choose one contestant a run")
    if not (arguments.checkpoint or arguments.simulator or arguments.random):
        raise ValueError("nothing to evaluate: pass --checkpoint NAME, --simulator or --random")
    if arguments.simulator and not (arguments.checkpoint or arguments.planner):
        raise ValueError("--simulator without a checkpoint needs --planner NAME (see `tdm planners`)")
    if arguments.out is not None:
        output_file(arguments.out)


def _contestant(
    arguments: Evaluate, folder: Path | None, saved: AgentSettings | None, env_id: str
) -> tuple[str, TDMAgent | AgentFactory | Policy, dict[str, Any]]:
    """Who plays, what to call it, and the settings to report."""
    from tdm_agents import checkpoint, registry
    from tdm_agents.agent import TDMAgent
    from tdm_agents.evaluation.environments import make_env
    from tdm_agents.evaluation.players import AgentFactory, RandomPolicy

    overrides = parse_settings(arguments.planner_settings)
    if arguments.random:
        env = make_env(env_id)
        space = env.action_space
        env.close()
        return "random policy", RandomPolicy(space, arguments.seed), {"policy": "random"}
    if arguments.simulator:
        from tdm_agents.world_models.simulator import SimulatorModel
        from tdm_envs.suite import batched_task

        if saved is not None:
            planner = checkpoint.choose_planner(saved, arguments.planner, overrides)
        else:
            planner = registry.make_planner(str(arguments.planner), **overrides)
        reward = saved.reward_function if saved else None
        repeat = arguments.action_repeat or (_action_repeat(folder) if folder else 1)
        fast = batched_task(env_id)
        every = arguments.replan_every or (saved.replan_every if saved else 1)
        factory = AgentFactory(
            lambda envs: SimulatorModel(envs, repeat, threads=arguments.threads, fast=fast),
            planner,
            reward,
            every,
        )
        name = checkpoint.planner_name(planner)
        chosen = {"model": "simulator", "action_repeat": repeat, "planner": name, "planner_settings": planner}
        chosen |= {"reward_function": reward, "replan_every": every}
        return f"{name} on the true simulator", factory, chosen
    assert folder is not None
    agent = TDMAgent.load(
        folder,
        arguments.planner,
        arguments.seed,
        arguments.device,
        replan_every=arguments.replan_every,
        **overrides,
    )
    name = checkpoint.planner_name(agent.planner)
    chosen = {
        "model": arguments.checkpoint,
        "action_repeat": agent.model.spec.action_repeat,
        "planner": name,
        "planner_settings": agent.planner,
        "reward_function": agent.reward_function,
        "replan_every": agent.replan_every,
    }
    return f"{name} on {type(agent.base_model).__name__}", agent, chosen


def _action_repeat(folder: Path) -> int:
    """The time step of a checkpoint's model, so that the simulator is compared at the same one."""
    from tdm_agents.checkpoint import load_model

    return load_model(folder).spec.action_repeat
