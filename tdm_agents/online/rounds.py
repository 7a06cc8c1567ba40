"""Rounds of episodes: every environment plays one, side by side, until all have ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tdm_agents.actors.actor import Actor
from tdm_agents.env_checks import read_reward
from tdm_agents.environments import Env
from tdm_agents.errors import retold
from tdm_agents.online.replay import PlayedEpisode
from tdm_agents.spaces import ObservationCodec, action_codec


@dataclass(slots=True)
class _Running:
    """An episode under way."""

    seen: Any
    observations: list[Any]
    actions: list[Any] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    length: int = 0
    score: float = 0.0
    end: str | None = None


@dataclass(frozen=True, slots=True)
class Played:
    """An episode of a round.

    Attributes:
        episode: What is learned from.
        score: Its return.
        length: Environment steps.
        end: ``"terminated"`` or ``"truncated"`` by the environment, or ``"cut"`` at the largest number.
    """

    episode: PlayedEpisode
    score: float
    length: int
    end: str


def play_round(
    envs: Sequence[Env],
    actor: Actor,
    first: Sequence[Any],
    *,
    repeat: int,
    most: int | None,
    decided: Callable[[int, int], bool],
) -> list[Played] | None:
    """Play one episode in every environment.

    Args:
        envs: The environments, already reset.
        actor: Who plays.
        first: The first observation of each.
        repeat: Environment steps per decision.
        most: Environment steps after which an episode is cut; None: when the environment ends it.
        decided: Called after every decision with the numbers of decisions and environment steps that it was;
            what it returns says whether to go on.

    Returns:
        The episodes, or None if ``decided`` said no.

    Raises:
        ValueError: If an observation or a reward cannot be used.
    """
    codec = ObservationCodec(
        envs[0].observation_space, images=True
    )  # the model has refused what it cannot read
    actions = action_codec(envs[0].action_space)
    running = [_Running(seen, [_flat(codec, seen)]) for seen in first]
    while active := [e for e in running if e.end is None]:
        before = sum(e.length for e in active)
        move = actor.act(
            [e.seen for e in running],
            [e.rewards[-1] if e.rewards else float("nan") for e in running],
            [e.end is None for e in running],
        )
        for i, (env, episode) in enumerate(zip(envs, running, strict=True)):
            if episode.end is not None:
                continue
            action = move.actions[i]
            episode.actions.append(actions.encode(action) if move.codes is None else move.codes[i])
            _hold(env, episode, action, repeat, most)
            episode.observations.append(_flat(codec, episode.seen))
        if not decided(len(active), sum(e.length for e in active) - before):
            return None
    return [_played(e, actions, repeat) for e in running]


def _flat(codec: ObservationCodec, seen: Any) -> npt.NDArray[Any]:
    return codec.flatten(seen).astype(codec.dtype, copy=False)


def _hold(env: Env, episode: _Running, action: Any, repeat: int, most: int | None) -> None:
    """Execute an action for as many environment steps as a decision has, or until the episode ends."""
    gathered = np.float32(0)
    for _ in range(repeat):
        episode.seen, given, terminated, truncated, _ = env.step(action)
        try:
            reward = read_reward(given)
        except ValueError as error:
            raise retold(error, f"at environment step {episode.length} of an episode: {error}") from error
        gathered += np.float32(reward)
        episode.score += reward
        episode.length += 1
        if terminated or truncated:
            episode.end = "terminated" if terminated else "truncated"
        elif episode.length == most:
            episode.end = "cut"
        if episode.end is not None:
            break
    episode.rewards.append(float(gathered))


def _played(e: _Running, actions: Any, repeat: int) -> Played:
    """The episode, without a last decision that was cut off before its end, unless there is no other.

    Where an episode goes on, half a decision would teach half of its reward and of its way as if of a whole.
    Recorded data leave it out, too (:mod:`tdm_agents.data.decisions`).
    """
    assert e.end is not None
    discrete = hasattr(actions, "choices")
    whole = len(e.actions)
    if e.end != "terminated" and e.length % repeat and whole > 1:
        whole -= 1
    episode = PlayedEpisode(
        observation=np.stack(e.observations[: whole + 1]),
        action=np.asarray(e.actions[:whole], np.int64 if discrete else np.float32),
        reward=np.asarray(e.rewards[:whole], np.float32),
        terminated=e.end == "terminated",
    )
    return Played(episode, e.score, e.length, e.end)
