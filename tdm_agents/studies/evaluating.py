"""The matches of a study's evaluations, one contestant in one environment each, for worker processes."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tdm_agents.actors.entries import parse_entry
from tdm_agents.collection.pool import Pool
from tdm_agents.comparison.matches import Rules, matches_of, play, provenances
from tdm_agents.environments import EnvRef
from tdm_agents.studies.makers import Maker, different, maker
from tdm_agents.studies.stage_products import Product
from tdm_agents.studies.stages import Evaluate


@dataclass(frozen=True, slots=True)
class MatchJob:
    """A match to be played.

    Attributes:
        product: Name of the evaluation.
        line: Who plays, with the folders of products.
        env: Where.
        rules: Seeds and settings.
        folder: Folder of the finished batches of episodes.
    """

    product: str
    line: str
    env: EnvRef
    rules: Rules
    folder: Path

    def __str__(self) -> str:
        return f"{self.line} in {self.env}"


@dataclass(frozen=True, slots=True)
class Played:
    """A match that was played.

    Attributes:
        job: The match.
        reached: Returns, in the order of the seeds, and costs.
        makers: Who played it.
        seconds: Wall-clock time of this process; little where the episodes were kept.
    """

    job: MatchJob
    reached: dict[str, Any]
    makers: list[Maker]
    seconds: float


def play_match(job: MatchJob) -> Played:
    """Play what is missing of a match.

    Raises:
        TDMError: If the contestant cannot play there; see :func:`tdm_agents.comparison.matches.matches_of`.
    """
    began = time.monotonic()
    (match,) = matches_of([parse_entry(job.line)], [job.env], job.rules)
    played = play(match, job.rules, job.folder)
    reached = {
        "returns": played.scores,
        "milliseconds_per_decision": played.milliseconds_per_decision,
        "transitions_per_decision": played.transitions_per_decision,
        "non_finite": played.non_finite,
    }
    found = different(maker(job.rules.device, made) for made in provenances(match, job.rules, job.folder))
    return Played(job, reached, found, time.monotonic() - began)


def jobs_of(product: Product, folders: Mapping[str, Path], device: str) -> list[MatchJob]:
    """The matches of an evaluation.

    Args:
        product: Its product.
        folders: Folders of the products that it needs, by name.
        device: Where learned models compute.
    """
    stage = product.stage
    assert isinstance(stage, Evaluate)
    protocol = stage.protocol
    rules = Rules(
        seeds=protocol.seeds,
        seed=protocol.seed,
        batch=protocol.batch,
        max_steps=protocol.max_steps,
        device=device,
    )
    line = stage.filled({name: shlex.quote(str(folders[name])) for name in stage.needs})
    return [MatchJob(stage.name, line, env, rules, product.files) for env in stage.envs]


def evaluate(
    products: Sequence[Product],
    folders: Mapping[str, Path],
    *,
    device: str,
    pool: Pool,
    watch: Callable[[Played], None],
) -> None:
    """Play evaluations, all matches side by side, and finish each when its last match ends.

    Args:
        products: The evaluations; their inputs are complete.
        folders: Folders of the products that they need, by name.
        device: Where learned models compute.
        pool: Who plays.
        watch: Called for every match that ends.
    """
    jobs = [job for product in products for job in jobs_of(product, folders, device)]
    by_name = {product.stage.name: product for product in products}
    found: dict[str, dict[str, Played]] = {name: {} for name in by_name}
    for played in pool.imap_unordered(play_match, jobs):
        name = played.job.product
        found[name][played.job.env.name] = played
        stage = by_name[name].stage
        assert isinstance(stage, Evaluate)
        if len(found[name]) == len(stage.envs):
            reached = {env.name: found[name][env.name].reached for env in stage.envs}
            seconds = sum(one.seconds for one in found[name].values())
            makers = different(one for played in found[name].values() for one in played.makers)
            by_name[name].finish(reached, seconds=seconds, makers=makers)
        watch(played)
