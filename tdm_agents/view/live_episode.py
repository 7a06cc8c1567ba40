"""Episodes that somebody watches and meddles with: one environment, one player, step by step.

Nothing in here knows of browsers or processes. A player is an entry as in ``tdm compare``; its planner and
the reward that it plans for can be changed in the middle of an episode.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch

from tdm_agents.actors.actor import Actor
from tdm_agents.actors.agents import AgentFactory
from tdm_agents.actors.contestant import actor_of
from tdm_agents.actors.enter import enter
from tdm_agents.actors.entries import PLANS, Entry, parse_entry
from tdm_agents.agent import PREDICTED, TDMAgent
from tdm_agents.agent.agent_files import planner_name
from tdm_agents.agent.deciding import PlanView
from tdm_agents.agent.memory import AgentMemory
from tdm_agents.env_checks import read_reward
from tdm_agents.environments import Env, EnvRef, seconds_per_step, steps_at_most
from tdm_agents.errors import WrongTypeError, WrongValueError
from tdm_agents.protocols import Planner, tracing
from tdm_agents.spaces import ObservationCodec
from tdm_agents.spaces.scalar_names import labels_of
from tdm_agents.view.live_physics import physics_of
from tdm_agents.view.plan_seen import plan_seen
from tdm_agents.view.snapshots import Body, PlanSeen, Setup, Snapshot
from tdm_envs.rewards import known_rewards, reward_sizes

OWN_REWARD = "the player's own"
"""The reward that the entry plans for by itself."""
_WIDEST = 480
"""Pixels of a frame that is sent to the page."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What is watched.

    Attributes:
        env: The environment.
        entries: The players to choose from, in text; see :mod:`tdm_agents.actors.entries`.
        rewards: ``"module:function"`` rewards to choose from, besides those that are known.
        env_seed: Seed of the first episode; later ones count on.
        seed: Seed of the players.
        device: Where learned models compute.
        threads: Threads of torch and the simulator.
        shown: Candidates that are shown of each plan.
        max_steps: Environment steps after which an episode is cut.
    """

    env: EnvRef
    entries: tuple[str, ...]
    rewards: tuple[str, ...] = ()
    env_seed: int = 0
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    shown: int = 12
    max_steps: int | None = None


class LiveEpisode:
    """The episode that is watched.

    Args:
        watched: The environment and its players; the first plays.

    Raises:
        TDMError: If the environment or the first player cannot be made.
    """

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.env, self._renders = _made(watched.env)
        self.physics = physics_of(self.env)
        self.shown = watched.shown
        self.frame: npt.NDArray[np.uint8] | None = None
        self._codec = ObservationCodec(self.env.observation_space)
        self._most = steps_at_most(self.env, watched.max_steps)
        self._episode, self._entry, self._player = -1, 0, ""
        self._last_score: float | None = None
        self._force: tuple[int, npt.NDArray[np.float64], int] | None = None
        self._reward_name = OWN_REWARD
        self._agent: TDMAgent | None = None
        self._planner: Planner | None = None
        self._actor: Actor | None = None
        self._memory: AgentMemory | None = None
        self._plan: PlanSeen | None = None
        self._view: PlanView | None = None
        self._repeat, self._held, self._plans, self._gathered = 1, 0, 0, math.nan
        self._action: Any = None
        self._next_episode()
        self.choose_entry(0)

    # ------------------------------------------------------------------ who plays

    def choose_entry(self, index: int) -> None:
        """Let another entry play from here on, for its own reward.

        Raises:
            TDMError: If it cannot play here; the former one goes on.
        """
        self._enter(index, OWN_REWARD)

    def choose_reward(self, name: str) -> None:
        """Plan for another reward, in the middle of the episode; the planner's settings stay.

        Raises:
            TDMError: If it cannot be planned for; the former one stays.
        """
        if name not in self._rewards():  # a name may import a module, and whoever sees the page can send one
            raise WrongValueError(f"reward {name!r}; expected one of {', '.join(self._rewards())}")
        planner = self._planner
        self._enter(self._entry, name)
        if planner is not None:
            self.choose_planner(planner)

    def choose_planner(self, planner: Planner) -> None:
        """Plan with another planner, in the middle of the episode; the history of the model stays.

        Raises:
            TDMError: If the player does not plan, or the planner cannot be used with its model.
        """
        if self._agent is None or self._memory is None:
            raise WrongTypeError(f"{self._player} does not plan: choose a checkpoint or the simulator")
        if planner.horizon < self._agent.replan_every:
            raise WrongValueError(
                f"horizon is {planner.horizon}; expected at least {self._agent.replan_every}, since as many "
                "decisions are taken from a plan"
            )
        carry = planner.init(self._agent.model.spec, 1)
        since = torch.zeros_like(self._memory.since)  # plans anew, and from no former plan
        self._memory = replace(self._memory, carry=carry, since=since)
        self._planner = planner

    def _enter(self, index: int, reward: str) -> None:
        entry = self._entry_for(index, reward)
        watched = self.watched
        entered = enter(entry, watched.env, seed=watched.seed, device=watched.device, threads=watched.threads)
        contestant = entered.contestant
        agent = contestant([self.env]) if isinstance(contestant, AgentFactory) else contestant
        if isinstance(agent, TDMAgent):
            agent.check_env(self.env)
            agent.generator.manual_seed(watched.seed)
            self._agent, self._actor = agent, None
            self._planner = agent.planner
            self._repeat = agent.model.spec.action_repeat
        else:
            self._agent, self._planner = None, None
            self._actor = actor_of(contestant, [self.env], seed=watched.seed)
            self._repeat = self._actor.action_repeat or 1
        self._entry, self._player, self._reward_name = index, entered.name, reward
        self._begin_memory()

    def _entry_for(self, index: int, reward: str) -> Entry:
        texts = self.watched.entries
        if not 0 <= index < len(texts):
            raise WrongValueError(f"entry {index} of {len(texts)}; expected one that was named at the start")
        entry = parse_entry(texts[index])
        if reward == OWN_REWARD:
            return entry
        if entry.kind not in PLANS:
            raise WrongTypeError(f"{entry.label} plans for no reward: choose a checkpoint or the simulator")
        return replace(entry, options={**entry.options, "reward_function": reward})

    def _begin_memory(self) -> None:
        self._memory = None
        if self._agent is not None and self._planner is not None:
            memory = self._agent.initial_memory(1)
            self._memory = replace(memory, carry=self._planner.init(self._agent.model.spec, 1))
        self._gathered, self._held, self._plans = math.nan, 0, 0
        self._plan, self._view = None, None

    # ------------------------------------------------------------------ playing

    def reset(self) -> None:
        """Begin the next episode."""
        self._next_episode()
        if self._actor is not None:
            self._enter(self._entry, self._reward_name)
        else:
            self._begin_memory()

    def _next_episode(self) -> None:
        self._episode += 1
        self._force = None
        seed = self.watched.env_seed + self._episode
        self._observation, _ = self.env.reset(seed=seed)
        self._steps, self._score, self._reward = 0, 0.0, 0.0
        self._render()

    def step(self) -> None:
        """One environment step: decide where that is due, then act; an end begins the next episode."""
        action = self._decide()
        self._shove()
        try:
            self._observation, given, terminated, truncated, _ = self.env.step(action)
        finally:
            if self.physics is not None:
                self.physics.release()
        self._reward = read_reward(given)
        self._score += self._reward
        self._gathered = (0.0 if math.isnan(self._gathered) else self._gathered) + self._reward
        self._steps += 1
        self._render()
        if terminated or truncated or self._steps == self._most:
            self._last_score = self._score
            self.reset()

    def push(self, body: int, force: Sequence[float], steps: int) -> None:
        """Push a body with a force in newtons, in the world's frame, during the next environment steps.

        Raises:
            TDMError: If there is no such body, or no body at all.
        """
        if self.physics is None:
            raise WrongTypeError(f"{self.watched.env} has no MuJoCo body to push")
        vector = np.asarray(force, np.float64)
        if not 0 < body < self.physics.model.nbody or vector.shape != (3,) or not np.isfinite(vector).all():
            raise WrongValueError(f"push of body {body} by {list(force)}; expected a body and three numbers")
        self._force = (body, vector, steps) if steps > 0 else None

    def _shove(self) -> None:
        if self._force is None or self.physics is None:
            return
        body, force, steps = self._force
        self.physics.push(body, force)
        self._force = (body, force, steps - 1) if steps > 1 else None

    def _decide(self) -> Any:
        if self._agent is None:
            if self._held == 0:
                assert self._actor is not None
                move = self._actor.act([self._observation], [self._gathered], [True])
                self._action, self._held, self._gathered = move.actions[0], self._repeat, 0.0
            self._held -= 1
            return self._action
        agent = self._agent
        assert self._memory is not None
        spec, known = agent.model.spec, math.nan if self._steps == 0 else self._reward
        reward = torch.tensor([known], dtype=spec.dtype, device=spec.device)
        with tracing():
            memory, action = agent.decide(
                self._memory,
                agent.observations(self._observation),
                reward=reward.to(agent.model.spec.device),
                planner=self._planner,
            )
        self._memory = memory
        if agent.last_plan is not None and agent.last_plan is not self._view:
            self._view, self._plans = agent.last_plan, self._plans + 1
            self._plan = plan_seen(agent, self._view, self.physics, number=self._plans, shown=self.shown)
        played = agent.environment_action(action[0])
        return played[()] if agent.model.spec.action_kind == "discrete" else played

    def _render(self) -> None:
        if not self._renders:
            return
        picture = np.asarray(self.env.render())
        if picture.ndim == 3 and picture.dtype == np.uint8:
            every = max(1, -(-picture.shape[1] // _WIDEST))
            self.frame = picture[::every, ::every]

    # ------------------------------------------------------------------ what is seen

    @property
    def plan_number(self) -> tuple[int, int]:
        """Episode and number of the newest plan."""
        return self._episode, self._plans

    @property
    def seconds_per_step(self) -> float:
        """Of an environment step; NaN where the environment does not say."""
        try:
            return seconds_per_step(self.env)
        except WrongValueError:
            return math.nan

    def setup(self, serial: int = 0) -> Setup:
        """The environment, and who plays in it, after so many commands."""
        return Setup(
            environment=str(self.watched.env),
            seconds_per_step=self.seconds_per_step,
            action_repeat=self._repeat,
            observation_names=tuple(labels_of(self.env)),
            sub_steps=1 if self.physics is None else self.physics.sub_steps,
            weight=0.0 if self.physics is None else self.physics.weight,
            player=self._who(),
            entry=self._entry,
            planner=self._planner,
            rewards=self._rewards(),
            reward=self._reward_name,
            serial=serial,
        )

    def _who(self) -> str:
        """Who plays, in words: the planner may be another one than the entry's."""
        if self._planner is None:
            return self._player
        return f"{planner_name(self._planner)} on {self._player.partition(' on ')[2]}"

    def body(self) -> Body:
        """The body to draw."""
        return Body(None if self.physics is None else pickle.dumps(self.physics.model))

    def snapshot(self, *, with_plan: bool = True, running: bool = True, problem: str = "") -> Snapshot:
        """The present step.

        Args:
            with_plan: Whether the newest plan is part of it.
            running: Whether the episode goes on by itself.
            problem: Why something was refused or failed.
        """
        return Snapshot(
            episode=self._episode,
            seed=self.watched.env_seed + self._episode,
            step=self._steps,
            score=self._score,
            reward=self._reward,
            observation=self._codec.flatten(self._observation),
            physics=None if self.physics is None else self.physics.state()[0],
            plan=self._plan if with_plan else None,
            frame=self.frame,
            running=running,
            last_score=self._last_score,
            problem=problem,
        )

    def _rewards(self) -> tuple[str, ...]:
        """The player's own, what a model predicts, those of known tasks of this size, and the user's."""
        if self._agent is None:
            return (OWN_REWARD,)
        spec = self._agent.model.spec
        if not spec.imagines_observations:
            return (OWN_REWARD, PREDICTED)
        sizes = (spec.observation_dim, spec.action_dim)
        known = [name for name in known_rewards() if reward_sizes(name) == sizes]
        return (OWN_REWARD, PREDICTED, *known, *self.watched.rewards)

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def _made(ref: EnvRef) -> tuple[Env, bool]:
    """The environment, and whether its pictures are asked for: only where there is no body to draw."""
    env = ref.make()
    if physics_of(env) is not None or "rgb_array" not in env.metadata.get("render_modes", ()):
        return env, False
    env.close()
    env = ref.make(render_mode="rgb_array")
    env.reset(seed=0)
    try:
        env.render()
    except gym.error.DependencyNotInstalled:  # pygame, which the page does without
        env.close()
        return ref.make(), False
    return env, True
