"""Episodes on fixed seeds, all of them at once.

The environments run in lock-step and an agent plans for every running episode in one call, so an evaluation
of ten episodes costs about as many model calls as one.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces

from tdm_agents.actors.actor import Actor, Move, steps_per_decision
from tdm_agents.actors.contestant import Contestant, actor_of
from tdm_agents.env_checks import read_reward, refuse_shared
from tdm_agents.environments import (
    Env,
    EnvRef,
    MakeEnv,
    episode_limit,
    make_env,
    name_of,
    steps_at_most,
    warn_of_cut,
)
from tdm_agents.errors import WrongTypeError, WrongValueError, retold
from tdm_agents.evaluation.real_rewards import Scoring
from tdm_agents.evaluation.records import End, Episode, Evaluation, FloatArray, Recording, Tick
from tdm_agents.protocols import RewardFn


@dataclass(slots=True)
class _Running:
    """An episode under way."""

    seed: int
    observation: Any
    gathered: float = math.nan  # reward since the last decision
    score: float = 0.0
    own: float = 0.0
    length: int = 0
    decisions: int = 0
    transitions: float = 0.0
    milliseconds: float = 0.0
    late: int = 0
    end: End | None = None
    observations: list[FloatArray] = field(default_factory=list)
    actions: list[FloatArray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    planned_at: list[int] = field(default_factory=list)
    imagined: list[FloatArray] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


def evaluate(
    contestant: Contestant,
    env: str | EnvRef | MakeEnv,
    seeds: Sequence[int],
    *,
    seed: int | None = 0,
    batch: int | None = None,
    max_steps: int | None = None,
    score_by: str | RewardFn | None = None,
    record_horizon: int | None = None,
    on_step: Callable[[Tick], None] | None = None,
) -> Evaluation:
    """Play one episode per seed, ``batch`` of them at once.

    A planner's draws depend on the number of environments that it plans for. So an episode of a sampling
    planner is reproduced by the same ``seeds``, ``seed`` and ``batch`` together.

    Args:
        contestant: A :class:`TDMAgent`; an :class:`AgentFactory` for a model that reads the live
            environments; a Stable-Baselines3 policy, or a :class:`Predictor` that says how it is asked; or a
            function from an observation to an action.
        env: An environment as text (an id, with arguments if it takes some), as :class:`EnvRef`, or as a
            function that makes it; it is made once per episode.
        seeds: Seeds of the environment's resets, one per episode.
        seed: Seed of the contestant's randomness. A later batch of episodes adds the index of its first
            episode, so that its draws differ. None lets an agent's generator go on.
        batch: Number of episodes side by side; None = all.
        max_steps: Environment steps after which an episode is cut; None = when the environment ends it, or
            after :data:`tdm_agents.environments.ENDLESS_STEPS`, with a warning, where it sets no limit.
        score_by: A reward function or its name, whose sums are the returns; None = the environment's own
            reward, which contestants are told of in any case.
        record_horizon: Imagined steps per plan to keep in :class:`Recording`; None = record nothing, 0 =
            record only what happened.
        on_step: Called after every environment step; see :mod:`tdm_agents.evaluation.progress_bar`.

    Raises:
        TypeError: If ``seeds`` are not integers.
        ValueError: If there are no seeds, ``env`` returns the same environment for several episodes, the
            environment's spaces are not the agent's, or an observation or reward is not finite; the message
            names the episode.
    """
    if isinstance(seeds, str | int) or not all(isinstance(s, numbers.Integral) for s in seeds):
        raise WrongTypeError(f"seeds is {seeds!r}; expected integers, one per episode: for example [0, 1]")
    seeds = [int(s) for s in seeds]  # of NumPy too, which Gymnasium refuses
    if not seeds:
        raise WrongValueError("seeds is empty; expected at least one seed, one per episode")
    size = len(seeds) if batch is None else batch
    if size < 1 or (max_steps is not None and max_steps < 1):
        raise WrongValueError(f"batch {batch}, max_steps {max_steps}; expected None or at least 1")
    loop = _Loop(seeds, size, max_steps, score_by, record_horizon, on_step)
    for first in range(0, len(seeds), size):
        with ExitStack() as stack:
            envs: list[Env] = []
            for _ in seeds[first : first + size]:
                envs.append(make_env(env))
                stack.callback(envs[-1].close)
            refuse_shared(envs)
            started = [
                _Running(s, e.reset(seed=s)[0])
                for s, e in zip(seeds[first : first + size], envs, strict=True)
            ]
            actor = actor_of(
                contestant,
                envs,
                seed=seed if seed is None else seed + first,
                record_horizon=record_horizon or 0,
            )
            loop.play(actor, envs, started)
            name = name_of(env, envs[0])
    return loop.evaluation(name)


class _Loop:
    """The lock-step loop and its running totals over batches of episodes."""

    def __init__(
        self,
        seeds: Sequence[int],
        size: int,
        max_steps: int | None,
        score_by: str | RewardFn | None,
        record_horizon: int | None,
        on_step: Callable[[Tick], None] | None,
    ) -> None:
        self.batches = math.ceil(len(seeds) / size)
        self.max_steps = max_steps
        self.score_by = score_by
        self.record_horizon = record_horizon
        self.on_step = on_step
        self.episodes: list[_Running] = []
        self.steps = 0
        self.batches_done = 0
        self.plan_calls = 0
        self.non_finite = 0.0
        self._most = max_steps
        self._scoring: Scoring | None = None
        self._spaces: tuple[spaces.Space[Any], spaces.Space[Any]] | None = None

    def play(self, actor: Actor, envs: list[Env], batch: list[_Running]) -> None:
        self.episodes += batch
        self._spaces = (envs[0].observation_space, envs[0].action_space)
        self._scoring = None if self.score_by is None else Scoring(self.score_by, envs[0])
        limit = self.max_steps or episode_limit(envs[0])
        self._most = steps_at_most(envs[0], self.max_steps)
        begun = self.steps
        held: list[Any] = []
        while any(e.end is None for e in batch):
            if (self.steps - begun) % steps_per_decision(actor) == 0:
                move = self._decide(actor, batch)
                self._account(move, batch)
                held = move.actions
            for env, episode, action in zip(envs, batch, held, strict=True):
                if episode.end is None:
                    self._step(env, episode, action)
            self.steps += 1
            if self.on_step is not None:
                rest = None if limit is None else (self.batches - self.batches_done) * limit
                self.on_step(self._tick(None if rest is None else begun + rest))
        self.batches_done += 1

    def _decide(self, actor: Actor, batch: list[_Running]) -> Move:
        active = [e.end is None for e in batch]
        try:
            return actor.act([e.observation for e in batch], [e.gathered for e in batch], active)
        except ValueError as error:
            running = [e for e in batch if e.end is None]
            raise retold(
                error,
                f"at environment step {running[0].length} of the episodes with seeds "
                f"{[e.seed for e in running]}: {error}",
            ) from error

    def _account(self, move: Move, batch: list[_Running]) -> None:
        for episode in batch:
            if episode.end is None:
                episode.decisions += 1
                episode.gathered = 0.0
        if not move.rows:
            return
        self.plan_calls += 1
        self.non_finite += move.non_finite
        for i, row in enumerate(move.rows):
            episode = batch[row]
            # every environment of a plan has the same number of candidates and the same share of the time
            episode.transitions += move.transitions / len(move.rows)
            episode.milliseconds += move.milliseconds / len(move.rows)
            episode.late += move.late
            if self.record_horizon is not None:
                episode.planned_at.append(episode.length)
                episode.values.append(math.nan if move.value is None else float(move.value[i]))
                if move.imagined is not None:
                    episode.imagined.append(move.imagined[i])

    def _step(self, env: Env, episode: _Running, action: Any) -> None:
        if self.record_horizon is not None:
            episode.observations.append(self._flat(0, episode.observation))
            episode.actions.append(self._flat(1, action))
        before = episode.observation
        episode.observation, given, terminated, truncated, _ = env.step(action)
        try:
            reward = read_reward(given)
            scoring = self._scoring
            score = reward if scoring is None else scoring(before, action, episode.observation)
        except ValueError as error:
            at = f"at environment step {episode.length} of the episode with seed {episode.seed}"
            raise retold(error, f"{at}: {error}") from error
        episode.score += score
        episode.own += reward
        # in float32, as models read it
        episode.gathered = float(np.float32(episode.gathered) + np.float32(reward))
        episode.length += 1
        episode.rewards.append(score)
        if terminated or truncated:
            episode.end = "terminated" if terminated else "truncated"
        elif episode.length == self._most:
            episode.end = "cut"
            if self.max_steps is None:
                warn_of_cut(str(env))
        if episode.end is not None and self.record_horizon is not None:
            episode.observations.append(self._flat(0, episode.observation))

    def _flat(self, which: int, value: Any) -> FloatArray:
        assert self._spaces is not None
        return np.asarray(spaces.flatten(self._spaces[which], value), np.float32)

    def _tick(self, total: int | None) -> Tick:
        decisions = sum(e.decisions for e in self.episodes)
        return Tick(
            steps=self.steps,
            total=total,
            running=sum(e.end is None for e in self.episodes),
            finished=sum(e.end is not None for e in self.episodes),
            mean_return=sum(e.score for e in self.episodes) / len(self.episodes),
            milliseconds_per_decision=sum(e.milliseconds for e in self.episodes) / max(decisions, 1),
        )

    def evaluation(self, env_id: str) -> Evaluation:
        return Evaluation(
            env_id=env_id,
            episodes=tuple(self._episode(e) for e in self.episodes),
            plan_calls=self.plan_calls,
            non_finite=int(self.non_finite),
        )

    def _episode(self, e: _Running) -> Episode:
        assert e.end is not None
        return Episode(
            seed=e.seed,
            score=e.score,
            length=e.length,
            decisions=e.decisions,
            transitions=e.transitions,
            milliseconds=e.milliseconds,
            end=e.end,
            recording=None if self.record_horizon is None else _recording(e),
            own=None if self.score_by is None else e.own,
            late=e.late,
        )


def _recording(e: _Running) -> Recording:
    observation = np.stack(e.observations)
    nothing = np.zeros((len(e.planned_at), 0, observation.shape[1]), np.float32)
    return Recording(
        observation=observation,
        action=np.stack(e.actions),
        reward=np.asarray(e.rewards, np.float32),
        planned_at=np.asarray(e.planned_at, np.int64),
        imagined=np.stack(e.imagined) if e.imagined else nothing,
        value=np.asarray(e.values, np.float32),
    )
