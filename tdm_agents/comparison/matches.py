"""Several contestants on the same seeds in the same environments, kept as they finish.

The unit that is kept is a batch of episodes that are planned for together, because a planner's draws depend
on which those are. So an interrupted comparison that goes on ends with the same numbers as one that was not
interrupted. Each batch is in ``parts/`` under the hash of everything that it depends on (settings, weights,
seeds, versions), so that it is never mistaken for a batch of other settings. With one entry, environment or
episode more, a comparison plays only what is new.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tdm_agents.actors.contestant import actor_of
from tdm_agents.actors.enter import Entered, enter
from tdm_agents.actors.entries import Entry
from tdm_agents.agent.reward_choice import reward_file
from tdm_agents.environments import EnvRef
from tdm_agents.errors import WrongValueError, retold
from tdm_agents.evaluation.as_json import evaluation_from_json, evaluation_to_json, plain
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.evaluation.real_rewards import Scoring
from tdm_agents.evaluation.records import Evaluation, Tick, joined
from tdm_agents.evaluation.report import provenance, versions
from tdm_agents.json_text import JsonError, plain_number
from tdm_agents.storage import CheckpointError, hashes, read_json, write_json

SCHEMA = 1
PARTS_FOLDER = "parts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The settings that are the same for everybody.

    Attributes:
        seeds: Seeds of the environment's resets, one per episode.
        seed: Seed of the contestants' randomness; a batch adds the index of its first episode.
        batch: Number of episodes that are planned for together: many are faster, few lose less to an
            interruption.
        max_steps: Environment steps after which an episode is cut; None = only the environment ends it.
        score_by: Name of the reward function that returns are counted by; None = the environment's own.
        device: Where learned models and policies compute.
        threads: Threads of PyTorch and of the simulator.
    """

    seeds: tuple[int, ...]
    seed: int = 0
    batch: int = 5
    max_steps: int | None = None
    score_by: str | None = None
    device: str = "cpu"
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Match:
    """A contestant in an environment.

    Attributes:
        entry: The contestant, as it was asked for.
        env: The environment.
        entered: The contestant.
        settings: Everything that was chosen for it, with the sha256 of the files that were read, as JSON.
    """

    entry: Entry
    env: EnvRef
    entered: Entered
    settings: dict[str, Any]

    @property
    def label(self) -> str:
        """The contestant's name in reports."""
        return self.entry.label


def match_of(entry: Entry, env: EnvRef, rules: Rules) -> Match:
    """The match of an entry in an environment, unchecked.

    Raises:
        TDMError: See :func:`tdm_agents.actors.enter.enter`.
    """
    entered = enter(entry, env, seed=rules.seed, device=rules.device, threads=rules.threads)
    # a reward function in a file is what the file says, which its author may change
    planned_for = reward_file(entered.settings.get("reward_function"))
    settings = plain({**entered.settings, "sha256": _hashes([*entered.files, planned_for])})
    return Match(entry, env, entered, settings)


def matches_of(entries: Sequence[Entry], envs: Sequence[EnvRef], rules: Rules) -> list[Match]:
    """The matches of every entry in every environment, entry by entry.

    Whatever cannot play is refused here, before anybody plays.

    Raises:
        ValueError: If two entries have the same label, or a contestant does not fit an environment; other
            errors are those of :func:`tdm_agents.actors.enter.enter`.
    """
    for kind, names in (("entries", [e.label for e in entries]), ("environments", [e.name for e in envs])):
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise WrongValueError(f"{kind} are told apart by their names; {repeated[0]!r} is given twice")
    found = []
    for entry in entries:
        for env in envs:
            match = match_of(entry, env, rules)
            _try(match, rules)
            found.append(match)
    return found


def play(
    match: Match,
    rules: Rules,
    folder: Path,
    on_step: Callable[[Tick], None] | None = None,
) -> Evaluation:
    """The episodes of a match: those kept in ``folder`` are read, the others are played and kept.

    Args:
        match: The match.
        rules: Seeds and settings.
        folder: Folder of the comparison.
        on_step: Called after every environment step that is played.

    Raises:
        ValueError: See :func:`tdm_agents.evaluation.episodes.evaluate`.
    """
    batches = []
    for first, what in batches_of(match, rules):
        path = part_path(folder, what)
        kept = _read(path, what)
        if kept is None:
            kept = play_batch(match, rules, first, on_step)
            keep(path, what, kept)
        batches.append(kept)
    return joined(batches)


def play_batch(
    match: Match, rules: Rules, first: int, on_step: Callable[[Tick], None] | None = None
) -> Evaluation:
    """Play the batch that begins with episode ``first``."""
    return evaluate(
        match.entered.contestant,
        match.env,
        rules.seeds[first : first + rules.batch],
        seed=rules.seed + first,
        max_steps=rules.max_steps,
        score_by=rules.score_by,
        on_step=on_step,
    )


def keep(path: Path, what: dict[str, Any], played: Evaluation) -> None:
    """Keep a batch, atomically."""
    part = {"schema": SCHEMA, "kind": "part", "what": what, "played": evaluation_to_json(played)}
    write_json(path, part | {"provenance": provenance()})


def provenances(match: Match, rules: Rules, folder: Path) -> list[dict[str, Any]]:
    """The provenance of every batch of a match that is kept."""
    paths = (part_path(folder, what) for _, what in batches_of(match, rules))
    fields = {"provenance": dict}
    return [read_json(path, schema=SCHEMA, fields=fields)["provenance"] for path in paths if path.exists()]


def kept_episodes(match: Match, rules: Rules, folder: Path) -> int:
    """The number of episodes of a match that are kept already."""
    return sum(len(what["seeds"]) for _, what in batches_of(match, rules) if part_path(folder, what).exists())


def batches_of(match: Match, rules: Rules) -> list[tuple[int, dict[str, Any]]]:
    """Index of the first episode, and everything that the result depends on, of every batch."""
    found = []
    for first in range(0, len(rules.seeds), rules.batch):
        what = {
            "env_id": str(match.env),
            "settings": match.settings,
            "seeds": list(rules.seeds[first : first + rules.batch]),
            "seed": rules.seed + first,
            "max_steps": rules.max_steps,
            "device": rules.device,
            "threads": rules.threads,
            "versions": versions(),
        }
        if rules.score_by is not None:
            what["score_by"] = [rules.score_by, *_hashes([reward_file(rules.score_by)]).values()]
        found.append((first, what))
    return found


def part_path(folder: Path, what: dict[str, Any]) -> Path:
    """The file of a batch in the folder of a comparison."""
    sha256 = hashlib.sha256(json.dumps(what, sort_keys=True, default=plain_number).encode()).hexdigest()
    return folder / PARTS_FOLDER / f"{sha256[:32]}.json"


def _hashes(files: Sequence[Path | None]) -> dict[str, str]:
    return hashes(file for file in files if file is not None)


def _read(path: Path, what: dict[str, Any]) -> Evaluation | None:
    if not path.exists():
        return None
    part = read_json(path, schema=SCHEMA)
    if part.get("what") != what:
        raise CheckpointError(f"{path} is not what its name says: it was altered; remove it")
    try:
        return evaluation_from_json(part.get("played", {}))
    except JsonError as error:
        raise CheckpointError(f"{path} was altered: {error}; remove it") from error


def _try(match: Match, rules: Rules) -> None:
    """Make the actor once, so that a misfit is found before anybody plays."""
    made = match.env.make()
    try:
        made.reset(seed=rules.seeds[0])
        actor_of(match.entered.contestant, [made], seed=rules.seed)
        if rules.score_by is not None:
            Scoring(rules.score_by, made)
    except (ValueError, TypeError) as error:
        raise retold(error, f"entry {match.label!r} cannot play {match.env}: {error}") from error
    finally:
        made.close()
