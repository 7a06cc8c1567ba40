"""The matches of a study's evaluations, one contestant in one environment each, for worker processes."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tdm_agents.actors.entries import parse_entry
from tdm_agents.collection.pool import Pool
from tdm_agents.comparison.matches import Rules, matches_of, play
from tdm_agents.environments import EnvRef
from tdm_agents.studies.products import Product
from tdm_agents.studies.stages import Evaluate


@dataclass(frozen=True, slots=True)
class MatchJob:
    """A match to be played.

    Attributes:
        line: Who plays, with the folders of products.
        env: Where.
        rules: Seeds and settings.
        folder: Folder of the finished batches of episodes.
    """

    line: str
    env: EnvRef
    rules: Rules
    folder: Path

    def __str__(self) -> str:
        return f"{self.line} in {self.env}"


def play_match(job: MatchJob) -> tuple[str, dict[str, Any]]:
    """Play what is missing of a match, and return the environment's name and what was reached there.

    Raises:
        TDMError: If the contestant cannot play there; see :func:`tdm_agents.comparison.matches.matches_of`.
    """
    (match,) = matches_of([parse_entry(job.line)], [job.env], job.rules)
    played = play(match, job.rules, job.folder)
    return job.env.name, {
        "returns": played.scores,
        "milliseconds_per_decision": played.milliseconds_per_decision,
        "transitions_per_decision": played.transitions_per_decision,
        "non_finite": played.non_finite,
    }


def jobs_of(stage: Evaluate, product: Product, folders: Mapping[str, Path], device: str) -> list[MatchJob]:
    """The matches of an evaluation.

    Args:
        stage: The evaluation.
        product: Its product.
        folders: Folders of the products that it needs, by name.
        device: Where learned models compute.
    """
    protocol = stage.protocol
    rules = Rules(
        seeds=protocol.seeds,
        seed=protocol.seed,
        batch=protocol.batch,
        max_steps=protocol.max_steps,
        device=device,
    )
    line = stage.filled({name: shlex.quote(str(folders[name])) for name in stage.needs})
    return [MatchJob(line, env, rules, product.files) for env in stage.envs]


def evaluate(
    stage: Evaluate,
    product: Product,
    folders: Mapping[str, Path],
    *,
    device: str,
    pool: Pool,
    watch: Callable[[str], None],
) -> dict[str, Any]:
    """Play the matches of an evaluation; those that are kept are read.

    Args:
        stage: The evaluation.
        product: Its product.
        folders: Folders of the products that it needs, by name.
        device: Where learned models compute.
        pool: Who plays.
        watch: Called with the environment of every finished match.

    Returns:
        What was reached, by environment in the order of the stage.
    """
    found: dict[str, Any] = {}
    for env, reached in pool.imap_unordered(play_match, jobs_of(stage, product, folders, device)):
        found[env] = reached
        watch(env)
    return {env.name: found[env.name] for env in stage.envs}
