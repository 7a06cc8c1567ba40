"""``tdm evaluate``: episodes on fixed seeds, batched, with a report that says how to repeat them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tdm_agents.actors.entries import Entry
from tdm_agents.cli.checks import at_least, output_file, tell_endless, usable_device
from tdm_agents.cli.config_file import keep_config_beside
from tdm_agents.cli.imports import Modules, import_modules, initializer
from tdm_agents.cli.pool_options import Hands, PoolOptions, telling
from tdm_agents.errors import WrongValueError
from tdm_agents.settings_text import parse_settings

if TYPE_CHECKING:
    from tdm_agents.comparison.matches import Match, Rules
    from tdm_agents.evaluation.records import Evaluation


@dataclass(frozen=True)
class Evaluate:
    """Play episodes on fixed seeds with an agent, the true simulator, an SB3 policy, or random actions."""

    checkpoint: str | None = None
    """Name of a bundled checkpoint, or a folder."""
    env_id: str | None = None
    """Environment to play, with its arguments if it takes some: `"tdm/WalkerTree-v0 dof=12 body=3"`; the
    checkpoint's own if not given."""
    planner: str | None = None
    """Name of a planner (see `tdm planners`); the checkpoint's own if not given. With --simulator it may be
    `expert`, which is the planner tuned for the environment (see `tdm experts list`)."""
    planner_settings: dict[str, str] = field(default_factory=dict)
    """The planner's settings, as pairs of name and value: `num-samples 64 horizon 25`."""
    replan_every: int | None = None
    """Decisions per plan; if not given the checkpoint's own, or 1."""
    deadline: float | None = None
    """Seconds that a decision may take; if not given the checkpoint's own, or as long as it takes."""
    reward: str | None = None
    """Reward to plan for and to count returns by, instead of the checkpoint's and the environment's:
    `my_rewards:slow`, the function `slow` of my_rewards.py in the current folder, or a name that a package
    provides."""
    simulator: bool = False
    """Plan with the true dynamics instead of the checkpoint's model, but with the checkpoint's planner,
    settings, reward function and action repeat."""
    random: bool = False
    """Play uniformly random actions."""
    policy: Path | None = None
    """Play what Stable-Baselines3 saved as a .zip (PPO, A2C, SAC, TD3, DDPG, DQN), with the statistics of
    VecNormalize beside it. A zip holds code that runs when it is read: use only one whose maker you trust."""
    action_repeat: int | None = None
    """Environment steps per decision of the simulator or the policy; if not given the checkpoint's own, or
    1."""
    episodes: int = 10
    """Number of episodes."""
    seed_start: int = 0
    """Seed of the first episode; the others follow."""
    seed: int = 0
    """Seed of the agent."""
    batch: int | None = None
    """Number of episodes side by side; all if not given."""
    max_steps: int | None = None
    """Environment steps after which an episode is cut; 10,000 where neither it nor the environment says."""
    device: str = "cpu"
    """Where the model computes."""
    threads: int = 1
    """Threads of torch and of the simulator; more threads than idle cores are many times slower."""
    out: Path | None = None
    """File of the report (JSON)."""
    import_: Modules = ()
    hands: Hands = field(default_factory=PoolOptions)


def run(arguments: Evaluate) -> None:
    """Evaluate, print a table, and write the report."""
    _check(arguments)
    import torch
    from rich.console import Console

    from tdm_agents.actors.enter import environment_of
    from tdm_agents.comparison.matches import Rules, match_of
    from tdm_agents.environments import EnvRef
    from tdm_agents.evaluation.episodes import evaluate
    from tdm_agents.evaluation.progress_bar import ProgressBar
    from tdm_agents.evaluation.report import make_report, table, titled, write_report
    from tdm_agents.remarks import remark

    usable_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    import_modules(arguments.import_)
    entry = entry_of(arguments)
    env = EnvRef.parse(arguments.env_id) if arguments.env_id else environment_of(entry)
    if env is None:
        raise WrongValueError("no environment: pass --env-id (the checkpoint names none)")
    rules = Rules(
        seeds=tuple(range(arguments.seed_start, arguments.seed_start + arguments.episodes)),
        seed=arguments.seed,
        batch=arguments.batch or arguments.episodes,
        max_steps=arguments.max_steps,
        score_by=arguments.reward,
        device=arguments.device,
        threads=arguments.threads,
    )
    match = match_of(entry, env, rules)
    entered = match.entered
    made = env.make()
    tell_endless(str(env), made, arguments.max_steps, remark)
    made.close()
    if arguments.hands.side_by_side:
        evaluation = _side_by_side(arguments, match, rules)
    else:
        with ProgressBar(entered.name) as progress:
            evaluation = evaluate(
                entered.contestant,
                env,
                rules.seeds,
                seed=rules.seed,
                batch=rules.batch,
                max_steps=rules.max_steps,
                score_by=rules.score_by,
                on_step=progress,
            )
    settings = {
        **entered.settings,
        "seed": arguments.seed,
        "batch": arguments.batch,
        "max_steps": arguments.max_steps,
        **({} if arguments.reward is None else {"score_by": arguments.reward}),
        "device": arguments.device,
    }
    weights = entered.files[0] if entered.files else None
    report = make_report(entered.name, evaluation, settings=settings, weights=weights)
    Console().print(table([report], title=titled(str(env), arguments.reward)))
    if arguments.out is not None:
        write_report(arguments.out, report)
        keep_config_beside(arguments.out, arguments, "evaluate")
        print(f"report: {arguments.out}")


def _side_by_side(arguments: Evaluate, match: Match, rules: Rules) -> Evaluation:
    """Play the batches of episodes in other processes."""
    from tdm_agents.comparison.played_batches import all_batches, play_all
    from tdm_agents.evaluation.progress_bar import counting
    from tdm_agents.remarks import remarks

    console = remarks()
    with (
        arguments.hands.opened(initializer(arguments.import_), telling(console)) as pool,
        counting(len(all_batches(match, rules)), console) as count,
    ):
        return play_all(match, rules, pool, lambda batch: count(str(batch)))


def entry_of(arguments: Evaluate) -> Entry:
    """The entry that the options describe."""
    if arguments.random:
        return Entry("random")
    if arguments.policy is not None:
        return Entry("policy", str(arguments.policy), {"action_repeat": arguments.action_repeat})
    planning = parse_settings(arguments.planner_settings) | {
        "planner": arguments.planner,
        "replan_every": arguments.replan_every,
        "deadline": arguments.deadline,
        "reward_function": arguments.reward,
    }
    if arguments.simulator:
        simulated = {"like": arguments.checkpoint, "action_repeat": arguments.action_repeat}
        return Entry("simulator", "", planning | simulated)
    return Entry("checkpoint", str(arguments.checkpoint), planning)


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
    arguments.hands.check()
    if arguments.hands.side_by_side and arguments.batch is None:
        raise WrongValueError(
            "batches of episodes are what is played side by side, and without --batch there is only one; "
            "pass --batch too, for example --batch 1 (a planner's draws depend on it)"
        )
    chosen = {
        "--simulator": arguments.simulator,
        "--random": arguments.random,
        "--policy": arguments.policy is not None,
    }
    given = [option for option, value in chosen.items() if value]
    if len(given) > 1:
        raise WrongValueError(
            f"{' and '.join(given)} exclude each other; choose one contestant per run, or use `tdm compare`"
        )
    if not (given or arguments.checkpoint):
        raise WrongValueError(
            "nothing to evaluate: pass --checkpoint NAME, --simulator, --policy MODEL.zip or --random"
        )
    if arguments.simulator and not (arguments.checkpoint or arguments.planner):
        raise WrongValueError("--simulator without a checkpoint needs --planner NAME (see `tdm planners`)")
    if arguments.out is not None:
        output_file(arguments.out)
