"""``tdm compare``: several contestants on the same seeds, with intervals and costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from tdm_agents.actors.entries import parse_entry, planning_for
from tdm_agents.cli.checks import at_least, output_folder, tell_endless, usable_device
from tdm_agents.cli.config_file import keep_config
from tdm_agents.cli.imports import Modules, import_modules, initializer
from tdm_agents.cli.pool_options import Hands, PoolOptions, telling
from tdm_agents.errors import WrongValueError

if TYPE_CHECKING:
    from tdm_agents.comparison.matches import Match, Rules

REPORT_FILE = "comparison.json"


@dataclass(frozen=True)
class Compare:
    """Play several contestants on the same seeds: returns with intervals, time and imagination per decision.

    Each --entry is one contestant: a checkpoint's name or folder (TDM, MLP or any other model), a .zip of
    Stable-Baselines3, `simulator` or `random`, then settings as NAME=VALUE:

      --entry cartpole-swingup
      --entry "runs/mlp planner=cem num_samples=64 label=MLP"
      --entry "simulator like=cartpole-swingup"
      --entry "simulator planner=mppi horizon=25 action_repeat=4"
      --entry "sac.zip action_repeat=4"
      --entry random

    Finished batches of episodes are kept: after an interruption the same command goes on where it stopped,
    and with one more entry, environment or episode it plays only what is new.
    """

    entry: tyro.conf.UseAppendAction[tuple[str, ...]]
    """Who plays; repeat the option for several. `label=` is the name in the report. Zips of Stable-Baselines3
    hold code that runs when they are read: use only zips whose makers you trust."""
    env_id: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Environment to play, with its arguments if it takes some: `"tdm/WalkerTree-v0 dof=12 body=3"`. Repeat
    the option for several, whose returns are also pooled. The first checkpoint's own if not given."""
    reward: str | None = None
    """Reward that everybody's returns are counted by, and that every entry that plans plans for unless it has
    `reward_function=` itself: `my_rewards:slow`, the function `slow` of my_rewards.py in the current folder,
    or a name that a package provides. The environment's own if not given."""
    episodes: int = 10
    """Number of episodes in each environment."""
    seed_start: int = 0
    """Seed of the first episode; the others follow."""
    seed: int = 0
    """Seed of the contestants."""
    batch: int = 5
    """Number of episodes that are planned for together, and kept together."""
    max_steps: int | None = None
    """Environment steps after which an episode is cut; 10,000 where neither it nor the environment says."""
    device: str = "cpu"
    """Where models and policies compute."""
    threads: int = 1
    """Threads of torch and of the simulator; more threads than idle cores are many times slower."""
    out: Path = Path("runs/compare")
    """Folder of comparison.json, comparison.md, comparison.png, and of the finished batches."""
    import_: Modules = ()
    hands: Hands = field(default_factory=PoolOptions)


def run(arguments: Compare) -> None:
    """Play what has not been played, print the tables, and write the report and the plot.

    Raises:
        LookupError: If there is no such checkpoint, planner or environment.
        ValueError: If an entry cannot be read or does not fit an environment, or a setting makes no sense.
        CheckpointError: If the report that would be replaced or a kept part is not what was written.
        FolderInUseError: If another comparison writes to the folder.
        SystemExit: On Ctrl-C, with code 130, after saying how to go on.
    """
    _check(arguments)
    import torch

    from tdm_agents.actors.enter import environment_of
    from tdm_agents.comparison.matches import PARTS_FOLDER, Rules, matches_of
    from tdm_agents.environments import EnvRef
    from tdm_agents.remarks import remark
    from tdm_agents.storage import locked, sweep_partial

    usable_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    import_modules(arguments.import_)
    entries = [planning_for(parse_entry(text), arguments.reward) for text in arguments.entry]
    envs = [EnvRef.parse(text) for text in arguments.env_id]
    if not envs:
        envs = [env for env in map(environment_of, entries) if env is not None][:1]
    if not envs:
        raise WrongValueError("no environment: pass --env-id (no entry is a checkpoint that names one)")
    rules = Rules(
        seeds=tuple(range(arguments.seed_start, arguments.seed_start + arguments.episodes)),
        seed=arguments.seed,
        batch=arguments.batch,
        max_steps=arguments.max_steps,
        score_by=arguments.reward,
        device=arguments.device,
        threads=arguments.threads,
    )
    for env in envs:
        made = env.make()
        tell_endless(str(env), made, arguments.max_steps, remark)
        made.close()
    matches = matches_of(entries, envs, rules)
    with locked(arguments.out):
        sweep_partial(arguments.out / PARTS_FOLDER)
        keep_config(arguments, "compare", arguments.out)
        _play_and_report(arguments, matches, rules)


def _play_and_report(arguments: Compare, matches: Sequence[Match], rules: Rules) -> None:
    """Play what is missing and write the report, into a folder that this process has locked."""
    from rich.console import Console

    from tdm_agents.comparison.comparison_plot import plot_comparison
    from tdm_agents.comparison.comparison_report import comparison_report, markdown, sections
    from tdm_agents.comparison.matches import kept_episodes, play
    from tdm_agents.evaluation.progress_bar import ProgressBar
    from tdm_agents.evaluation.report import table, titled, write_report
    from tdm_agents.remarks import remark
    from tdm_agents.storage import write_bytes

    console, out = Console(), arguments.out
    former = _episodes_of(out / REPORT_FILE)
    played = []
    try:
        if arguments.hands.side_by_side:
            _play_side_by_side(arguments, matches, rules)
        for match in matches:
            kept = kept_episodes(match, rules, out)
            name = f"{match.label}, {match.env}" + (f" ({kept} episodes are kept)" if kept else "")
            with ProgressBar(name) as progress:
                played.append((match, play(match, rules, out, on_step=progress)))
    except KeyboardInterrupt:
        kept = sum(kept_episodes(match, rules, out) for match in matches)
        console.print(
            f"Stopped. {kept} of {len(matches) * len(rules.seeds)} episodes are kept in {out}; "
            "the same command goes on from there.",
            soft_wrap=True,
            markup=False,
        )
        raise SystemExit(130) from None
    if former > arguments.episodes:
        remark(
            f"the former report in {out}, of {former} episodes, is replaced by one of {arguments.episodes}; "
            "the episodes themselves stay kept"
        )
    report = comparison_report(played, rules)
    for title, reports in sections(report).items():
        console.print(table(reports, title=titled(title, arguments.reward)))
    write_bytes(out / "comparison.md", markdown(report).encode())
    plot_comparison(out / "comparison.png", sections(report))
    write_report(out / REPORT_FILE, report)
    print(f"report: {out / REPORT_FILE}, {out / 'comparison.md'}; plot: {out / 'comparison.png'}")


def _play_side_by_side(arguments: Compare, matches: Sequence[Match], rules: Rules) -> None:
    """Play and keep what is missing, in other processes."""
    from tdm_agents.comparison.played_batches import missing, play_missing
    from tdm_agents.evaluation.progress_bar import counting
    from tdm_agents.remarks import remarks

    console = remarks()
    total = len(missing(matches, rules, arguments.out))
    if not total:
        return
    with (
        arguments.hands.opened(initializer(arguments.import_), telling(console)) as pool,
        counting(total, console) as count,
    ):
        play_missing(matches, rules, arguments.out, pool, lambda batch: count(str(batch)))


def _episodes_of(report: Path) -> int:
    """Number of episodes per contestant in an earlier report; 0 where there is none."""
    if not report.exists():
        return 0
    from tdm_agents.comparison.comparison_report import SCHEMA
    from tdm_agents.storage import read_json

    return len(read_json(report, schema=SCHEMA).get("seeds", ()))


def _check(arguments: Compare) -> None:
    if not arguments.entry:
        raise WrongValueError('nobody plays: pass --entry, for example --entry "simulator planner=mppi"')
    at_least(
        1,
        episodes=arguments.episodes,
        batch=arguments.batch,
        max_steps=arguments.max_steps,
        threads=arguments.threads,
    )
    at_least(0, seed_start=arguments.seed_start)
    arguments.hands.check()
    output_folder(arguments.out)
