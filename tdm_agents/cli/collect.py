"""``tdm collect``: episodes of any actor in Minari data sets."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields

import numpy as np

from tdm_agents.actors.behaviour import BehaviourPolicy, PlannerPolicy, RandomPolicy
from tdm_agents.actors.entries import EXPERT
from tdm_agents.actors.tuned import expert_for
from tdm_agents.cli.checks import at_least, output_file, output_folder, tell_endless
from tdm_agents.cli.collect_options import Collect
from tdm_agents.cli.collect_progress import Progress
from tdm_agents.cli.config_file import keep_config
from tdm_agents.cli.pool_options import telling
from tdm_agents.collection.actor_lines import EPISODES, ActorLine, parse_actor
from tdm_agents.collection.collecting import collect, entry_of
from tdm_agents.collection.collection_check import check, is_finished
from tdm_agents.collection.collection_manifest import default_name, read_manifest, write_manifest
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.seeds import COLLECTION_FIRST
from tdm_agents.collection.shard_store import ShardStore
from tdm_agents.collection.storable import check_storable
from tdm_agents.collection.workers import EpisodeDone, one_thread
from tdm_agents.environments import EnvRef
from tdm_agents.errors import WrongValueError, is_mistake, retold
from tdm_agents.remarks import remark, remarks
from tdm_agents.settings_text import parse_settings

BESIDE_MANIFEST = {"out", "hands", "shards", "manifest", "write_manifest"}


def run(args: Collect) -> None:
    """Collect, with a live table of the progress.

    Raises:
        DataError: If the folder holds something else, a manifest is wrong, or an episode keeps failing.
        WorkerDiedError: If an episode keeps killing its workers.
        ValueError: If a setting makes no sense, or the folder cannot be written to.
        SystemExit: On Ctrl-C, with code 130, after saying how to go on.
    """
    _check(args)
    console = remarks()
    datasets = datasets_of(args, remark)
    if args.write_manifest is not None:
        write_manifest(args.write_manifest, datasets)
        print(f"{len(datasets)} environments in {args.write_manifest}")
        return
    # mistakes are found before the table is drawn
    if not is_finished(datasets, args.out):  # a finished collection is only read
        output_folder(args.out)
    unfinished = check(datasets, args.out)
    for dataset in {(dataset.env.id, *dataset.counts): dataset for dataset in datasets}.values():
        _try(args, dataset, remark)
    if unfinished:
        keep_config(args, "collect", args.out)
    counts: Counter[str] = Counter()
    for dataset in unfinished:
        counts.update(dataset.counts)
    progress = Progress(counts, clock=time.monotonic)

    def watch(done: EpisodeDone) -> None:
        progress.add(done)
        for failure in done.failures:
            console.print(
                f"{done.environment} {done.policy} {done.index} failed and was replaced: {failure}".strip(),
                style="yellow",
                markup=False,
                soft_wrap=True,
            )

    try:
        with args.hands.opened(one_thread, telling(console)) as pool, progress.live(console):
            store = None if args.shards is None else ShardStore(args.shards)
            data = collect(datasets, args.out, pool=pool, store=store, watch=watch)
    except KeyboardInterrupt:
        print(
            f"Stopped. {progress.done} of {progress.total} episodes are kept in {args.out}; "
            "the same command goes on from there."
        )
        raise SystemExit(130) from None
    if not unfinished:
        print(f"{data} is complete already; nothing to do.")
        return
    entries = [entry_of(dataset, args.out) for dataset in datasets]
    episodes, transitions = sum(e.episodes for e in entries), sum(e.transitions for e in entries)
    megabytes = sum(e.bytes for e in entries) / 1e6
    print(
        f"Wrote {data}: environments {len(entries)}, episodes {episodes:,}, "
        f"transitions {transitions:,}, {megabytes:.1f} MB."
    )


def _try(args: Collect, dataset: DatasetSpec, tell: Callable[[str], None]) -> None:
    """Make an environment and begin an episode of each policy, since a planner needs a simulator of it.

    Raises:
        ValueError: If a policy cannot act in it.
    """
    env = dataset.make_env()
    try:
        check_storable(env)
        tell_endless(str(dataset.env), env, dataset.max_steps, tell)
        env.reset(seed=COLLECTION_FIRST)
        for policy, count in dataset.mix:
            if not count:
                continue
            try:
                policy.start(
                    env, np.random.default_rng(0), ref=dataset.env, action_repeat=dataset.action_repeat
                )
            except (TypeError, ValueError) as error:
                raise retold(
                    error,
                    f"no episodes of {policy.name!r} can be played in {dataset}: {error}; ask for none "
                    f"({_asks_for_none(args, policy)})",
                ) from error
    finally:
        env.close()


def _asks_for_none(args: Collect, policy: BehaviourPolicy) -> str:
    """How a command asks for no episodes of a policy that it asks for."""
    if args.manifest is not None:
        return "0 in the manifest"
    if isinstance(policy, PlannerPolicy) and args.planner_episodes != 0:
        return "--planner-episodes 0"
    if isinstance(policy, RandomPolicy) and args.random_episodes != 0:
        return "--random-episodes 0"
    return "leave out its --actor"


def datasets_of(args: Collect, tell: Callable[[str], None] = lambda text: None) -> Sequence[DatasetSpec]:
    """The data sets that the command asks for.

    Args:
        args: The command.
        tell: Called with one line that says what was chosen by default.

    Raises:
        DataError: If the manifest is wrong.
        ValueError: If a setting makes no sense, or the set of bodies was changed.
        LookupError: If there is no such actor.
    """
    if args.manifest is not None:
        return read_manifest(args.manifest)
    if args.bodies is None:
        env = EnvRef.parse(args.env_id)
        return [_dataset(args, "", env, _planner_episodes(args, env, tell))]
    from tdm_envs.walkers import read_manifest as read_bodies

    envs = [EnvRef(key.env_id, {"dof": key.dof, "body": key.body}) for key in read_bodies(args.bodies).bodies]
    planned = _asked_of_planner(args)
    return [_dataset(args, default_name(env), env, EPISODES if planned is None else planned) for env in envs]


def _asked_of_planner(args: Collect) -> int | None:
    """Number of the planner's episodes; None where nothing says how many."""
    if args.planner_episodes is not None:
        return args.planner_episodes
    if args.planner is not None or args.planner_settings:
        return EPISODES
    return 0 if args.actor else None


def _planner_episodes(args: Collect, env: EnvRef, tell: Callable[[str], None]) -> int:
    asked = _asked_of_planner(args)
    if asked is not None or args.random_episodes == 0:
        return EPISODES if asked is None else asked
    from tdm_agents.actors.simulators import true_dynamics

    made = env.make(disable_env_checker=True)
    try:
        made.reset(seed=COLLECTION_FIRST)
        true_dynamics(action_repeat=1)([made])
    except (TypeError, ValueError) as error:
        if not is_mistake(error):
            raise
        why = str(error).partition(";")[0]
        tell(f"Random episodes only, since there is nothing to plan with: {why}. --actor chooses who plays.")
        return 0
    finally:
        made.close()
    return EPISODES


def _dataset(args: Collect, name: str, env: EnvRef, planner_episodes: int) -> DatasetSpec:
    random = args.random_episodes
    random = (0 if args.actor else EPISODES) if random is None else random
    lines = [ActorLine(RandomPolicy(), random)] if random else []
    if planner_episodes and args.planner == EXPERT:
        expert = expert_for(env)  # its horizon is counted in decisions
        lines.append(ActorLine(expert.make_policy(), planner_episodes, expert.action_repeat))
    elif planner_episodes:
        settings = parse_settings(args.planner_settings)
        lines.append(ActorLine(PlannerPolicy(args.planner or "mppi", settings), planner_episodes))
    lines += [parse_actor(text, env) for text in args.actor]
    own = [line.policy.action_repeat for line in lines] + [line.action_repeat for line in lines]
    repeat = next((one for one in own if one is not None), 4 if args.bodies is None else 1)
    return DatasetSpec(
        name=name,
        env=env,
        mix=tuple((line.policy, line.episodes) for line in lines),
        action_repeat=args.action_repeat or repeat,
        seed=args.seed,
        max_steps=args.max_steps,
    )


def _check(args: Collect) -> None:
    if args.write_manifest is not None:
        output_file(args.write_manifest, "--write-manifest")
    args.hands.check()
    if args.manifest is not None:
        for option in fields(args):
            default = option.default if option.default is not MISSING else {}
            if option.name not in BESIDE_MANIFEST and getattr(args, option.name) != default:
                name = option.name.replace("_", "-")
                raise WrongValueError(
                    f"--{name} has no place beside --manifest, which says it; change the manifest"
                )
        return
    at_least(0, random_episodes=args.random_episodes, planner_episodes=args.planner_episodes, seed=args.seed)
    if args.random_episodes == args.planner_episodes == 0 and not args.actor:
        raise WrongValueError(
            "--random-episodes and --planner-episodes are both 0; expected at least 1 episode of either"
        )
    if args.planner == EXPERT and args.planner_settings:
        raise WrongValueError("--planner expert has its own settings; leave out --planner-settings")
    at_least(1, action_repeat=args.action_repeat, max_steps=args.max_steps)
    if args.bodies is not None and args.env_id != Collect.env_id:
        raise WrongValueError("--bodies says which environments; leave out --env-id")
