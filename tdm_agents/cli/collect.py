"""``tdm collect``: play episodes and write Minari data sets."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from tdm_agents.cli.checks import at_least, output_file, output_folder
from tdm_agents.cli.collect_progress import Progress
from tdm_agents.data.collection import collect, entry_of
from tdm_agents.data.collection_check import check, is_finished
from tdm_agents.data.manifest import default_name, read_manifest, write_manifest
from tdm_agents.data.policies import BehaviourPolicy, PlannerPolicy, RandomPolicy
from tdm_agents.data.pool import WorkerDeath, WorkerPool
from tdm_agents.data.portion import Portion
from tdm_agents.data.seeds import COLLECTION_FIRST
from tdm_agents.data.workers import EpisodeDone, one_thread
from tdm_agents.evaluation.entries import parse_place, parse_settings
from tdm_agents.experts.presets import EXPERT, expert_for


@dataclass(frozen=True)
class Collect:
    """Collect episodes of correlated random actions and of a disturbed planner into Minari data sets.

    One environment (--env-id), every walker of a set of bodies (--bodies), or what a manifest says
    (--manifest). Interrupted, the same command goes on where it stopped.
    """

    out: Path
    """Folder of the data: OUT/data of one environment, OUT/NAME/data of each of several with OUT/index.json;
    they appear when all episodes are done."""
    env_id: str = "dm_control/cartpole-swingup-v0"
    """Gymnasium id, with its arguments: "tdm/WalkerTree-v0 dof=12 body=3"; "module:ID" imports what registers
    it."""
    bodies: Path | None = None
    """Set of walkers, from `tdm envs sample`; the numbers of episodes are of each."""
    manifest: Path | None = None
    """JSON file of environments, episodes and policies (see tdm_agents/data/manifest.py), which says all but
    --out and --workers."""
    random_episodes: int = 200
    """Episodes of correlated noise, its correlation and scale drawn for each."""
    planner_episodes: int = 200
    """Episodes of the planner on the true dynamics, with noise and bursts of random actions."""
    planner: str = "mppi"
    """The planner's name, or `expert`: the one tuned for each environment (see `tdm experts list`)."""
    planner_settings: dict[str, str] = field(default_factory=dict)
    """The planner's settings, as pairs of name and value: `num-samples 64 horizon 25`."""
    action_repeat: int | None = None
    """Environment steps that each action is held; the expert's own, or 4, or 1 with --bodies."""
    max_steps: int | None = None
    """Environment steps after which an episode is cut off; needed where the environment has no end."""
    workers: int = 1
    """Processes, of one thread each; not more than there are idle cores."""
    seed: int = 0
    """Every episode is a function of it."""
    write_manifest: Path | None = None
    """Write what would be collected as a manifest, to be read or changed, and collect nothing."""


BESIDE_MANIFEST = {"out", "workers", "manifest", "write_manifest"}


def run(args: Collect) -> None:
    """Collect, with a live table of the progress.

    Raises:
        DataError: If the folder holds something else, a manifest is wrong, or an episode keeps failing.
        WorkerDiedError: If an episode keeps killing its workers.
        ValueError: If a setting makes no sense, or the folder cannot be written to.
        SystemExit: On Ctrl-C, with code 130, after saying how to go on.
    """
    _check(args)
    console = Console()
    portions = portions_of(args)
    if args.write_manifest is not None:
        write_manifest(args.write_manifest, portions)
        console.print(f"{len(portions)} environments in {args.write_manifest}")
        return
    # all that can be wrong is found before the table is drawn
    if not is_finished(portions, args.out):  # a finished collection is only read
        output_folder(args.out)
    unfinished = check(portions, args.out)
    for portion in {(portion.env_id, *portion.counts): portion for portion in portions}.values():
        _try(portion)
    counts: Counter[str] = Counter()
    for portion in unfinished:
        counts.update(portion.counts)
    progress = Progress(counts, clock=time.monotonic)

    def watch(done: EpisodeDone) -> None:
        progress.add(done)
        for failure in done.failures:
            console.print(
                f"{done.environment} {done.policy} {done.index} failed and was replaced: {failure}",
                style="yellow",
                markup=False,
            )

    def on_death(death: WorkerDeath) -> None:
        console.print(str(death), style="yellow", markup=False)

    try:
        with progress.live(console), WorkerPool(args.workers, one_thread, on_death=on_death) as pool:
            data = collect(portions, args.out, pool=pool, watch=watch)
    except KeyboardInterrupt:
        console.print(
            f"Stopped. {progress.done} of {progress.total} episodes are kept in {args.out}; "
            "the same command goes on from there."
        )
        raise SystemExit(130) from None
    if not unfinished:
        console.print(f"{data} is complete already; nothing to do.")
        return
    entries = [entry_of(portion, args.out) for portion in portions]
    episodes, transitions = sum(e.episodes for e in entries), sum(e.transitions for e in entries)
    megabytes = sum(e.bytes for e in entries) / 1e6
    console.print(
        f"Wrote {data}: environments {len(entries)}, episodes {episodes:,}, "
        f"transitions {transitions:,}, {megabytes:.1f} MB."
    )


def _try(portion: Portion) -> None:
    """Make an environment and begin an episode of each policy, since a planner needs a simulator of it.

    Raises:
        ValueError: If a policy cannot act in it.
    """
    env = portion.make_env()
    try:
        env.reset(seed=COLLECTION_FIRST)
        for policy, count in portion.mix:
            if not count:
                continue
            try:
                policy.start(env, np.random.default_rng(0), action_repeat=portion.action_repeat)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"no episodes of {policy.name!r} can be played in {portion}: {error}; ask for none "
                    "(--planner-episodes 0, or 0 in the manifest)"
                ) from error
    finally:
        env.close()


def portions_of(args: Collect) -> Sequence[Portion]:
    """What the command asks for.

    Raises:
        DataError: If the manifest is wrong.
        ValueError: If a setting makes no sense, or the set of bodies was changed.
    """
    if args.manifest is not None:
        return read_manifest(args.manifest)
    if args.bodies is None:
        place = parse_place(args.env_id)
        return [_portion(args, "", place.env_id, place.kwargs)]
    from tdm_envs.walkers import read_manifest as read_bodies

    walkers = [(key.env_id, {"dof": key.dof, "body": key.body}) for key in read_bodies(args.bodies).bodies]
    return [_portion(args, default_name(env_id, kwargs), env_id, kwargs) for env_id, kwargs in walkers]


def _portion(args: Collect, name: str, env_id: str, kwargs: Mapping[str, Any]) -> Portion:
    repeat = 4 if args.bodies is None else 1
    mix: list[tuple[BehaviourPolicy, int]] = []
    if args.random_episodes:
        mix.append((RandomPolicy(), args.random_episodes))
    if args.planner_episodes and args.planner == EXPERT:
        expert = expert_for(env_id)
        repeat = expert.action_repeat  # its horizon is counted in decisions
        mix.append((expert.make_policy(), args.planner_episodes))
    elif args.planner_episodes:
        settings = parse_settings(args.planner_settings)
        mix.append((PlannerPolicy(args.planner, settings), args.planner_episodes))
    return Portion(
        name=name,
        env_id=env_id,
        env_kwargs=kwargs,
        mix=tuple(mix),
        action_repeat=args.action_repeat or repeat,
        seed=args.seed,
        max_steps=args.max_steps,
    )


def _check(args: Collect) -> None:
    if args.write_manifest is not None:
        output_file(args.write_manifest, "--write-manifest")
    at_least(1, workers=args.workers)
    if args.manifest is not None:
        for option in fields(args):
            default = option.default if option.default is not MISSING else {}
            if option.name not in BESIDE_MANIFEST and getattr(args, option.name) != default:
                name = option.name.replace("_", "-")
                raise ValueError(
                    f"--{name} has no place beside --manifest, which says it; change the manifest"
                )
        return
    at_least(0, random_episodes=args.random_episodes, planner_episodes=args.planner_episodes, seed=args.seed)
    if args.random_episodes + args.planner_episodes == 0:
        raise ValueError(
            "--random-episodes and --planner-episodes are both 0; expected at least 1 episode of either"
        )
    if args.planner == EXPERT and args.planner_settings:
        raise ValueError("--planner expert has its own settings; leave out --planner-settings")
    at_least(1, action_repeat=args.action_repeat, max_steps=args.max_steps)
    if args.bodies is not None and args.env_id != Collect.env_id:
        raise ValueError("--bodies says which environments; leave out --env-id")
