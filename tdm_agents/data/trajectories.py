"""Trajectories, on which models are trained: memory-mapped episodes of decision steps."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces

from tdm_agents.data.decisions import Decisions, cache_decisions, read_info
from tdm_agents.data.index import data_sets
from tdm_agents.data.mapped_steps import MappedSteps, Rewarded, Steps
from tdm_agents.data.minari_io import DataError
from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Batch, ModelSpec
from tdm_agents.spaces import FloatArray, ObservationCodec, action_codec
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.spaces.space_json import space_from_json

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TrajectoryInfo:
    """The environment that the steps come from.

    Attributes:
        env_id: ``"ID"`` or ``"module:ID"``, ``""`` where unknown.
        observation_space: The space before flattening.
        action_space: A ``Box``, whose actions are scaled from its bounds to [-1, 1], or a ``Discrete`` or
            ``MultiDiscrete``, whose choices are counted from 0.
        action_repeat: Environment steps per decision; rewards are sums over them.
        source: sha256 of each data set, in the order of the parts.
        env_kwargs: Keyword arguments of ``gymnasium.make``, where known.
        observation_names: Name of each observation scalar, where known.
    """

    env_id: str
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    action_repeat: int
    source: tuple[str, ...]
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    observation_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trajectories:
    """Episodes of environments with the same spaces; cheap to split and join, since arrays are shared.

    Attributes:
        parts: The arrays of each data set, with all its episodes end to end (``S`` steps).
        episodes: ``[E, 3]`` int64, one row per selected episode: part, first step, number of steps
            (decisions + 1).
        info: Spaces, time step, provenance.
        to_go: What :meth:`with_returns` adds: per part ``[S]``, the discounted sum of the rewards after each
            step; empty without.
    """

    parts: tuple[Steps, ...]
    episodes: IntArray
    info: TrajectoryInfo
    to_go: tuple[FloatArray, ...] = ()

    @classmethod
    def from_minari(
        cls,
        source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        action_repeat: int = 1,
        cache: str | os.PathLike[str] | None = None,
    ) -> Trajectories:
        """Decision steps of one or several Minari data sets.

        Args:
            source: Folder or Minari id, or folder with an index of several
                (:func:`~tdm_agents.data.index.data_sets`); or several of these, all with the same spaces.
            action_repeat: Environment steps per decision; the action must be constant inside a decision.
            cache: Folder for the memory-mapped arrays; by default ``.tdm-cache`` beside each data set.

        Raises:
            DataError: If a data set is missing, empty or damaged, an action changes inside a decision, or
                spaces differ.
            ValueError: If the spaces cannot be planned over.
        """
        return cls.concatenate(cls.each_from_minari(source, action_repeat=action_repeat, cache=cache))

    @classmethod
    def each_from_minari(
        cls,
        source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        action_repeat: int = 1,
        cache: str | os.PathLike[str] | None = None,
    ) -> list[Trajectories]:
        """Like :meth:`from_minari`, but each data set by itself, so that spaces may differ.

        Raises:
            DataError: Also if one is there twice: what is held out of the one would be trained on as the
                other's.
        """
        several = [source] if isinstance(source, (str, os.PathLike)) else list(source)
        found: dict[tuple[str, ...], Path] = {}
        opened = []
        for path in (path for one in several for path in data_sets(one)):
            part = cls.open(cache_decisions(path, action_repeat=action_repeat, cache=cache))
            if (former := found.setdefault(part.info.source, path)) is not path:
                raise DataError(
                    f"{former} and {path} hold the same episodes: name each data set once, and no folder "
                    "together with one that lies in it"
                )
            opened.append(part)
        return opened

    @classmethod
    def open(cls, folder: Path) -> Trajectories:
        """Map the arrays that :func:`~tdm_agents.data.decisions.cache_decisions` wrote."""
        stored = read_info(folder)
        return cls.from_arrays(
            MappedSteps(folder),
            offsets=np.load(folder / "offsets.npy"),
            info=TrajectoryInfo(
                env_id=stored["env_id"],
                observation_space=space_from_json(stored["observation_space"]),
                action_space=space_from_json(stored["action_space"]),
                action_repeat=stored["action_repeat"],
                source=(stored["source"],),
                env_kwargs=stored["env_kwargs"],
                observation_names=tuple(stored.get("observation_names", ())),
            ),
        )

    @classmethod
    def from_arrays(cls, steps: Steps, *, offsets: IntArray, info: TrajectoryInfo) -> Trajectories:
        """Episodes that lie end to end.

        Args:
            steps: Arrays of ``S`` steps.
            offsets: ``[E + 1]``; episode ``e`` is ``offsets[e]:offsets[e + 1]``.
            info: Spaces, time step, provenance.

        Raises:
            ValueError: If ``offsets`` do not run from 0 to ``S``, increasing.
        """
        offsets = np.asarray(offsets, np.int64)
        if offsets[0] != 0 or offsets[-1] != len(steps.reward) or (np.diff(offsets) < 1).any():
            raise WrongValueError(
                f"offsets run from {offsets[0]} to {offsets[-1]} over {len(steps.reward)} steps; "
                "expected 0 to the number of steps, increasing"
            )
        episodes = np.stack([np.zeros(len(offsets) - 1, np.int64), offsets[:-1], np.diff(offsets)], axis=1)
        return cls((steps,), episodes, info)

    @classmethod
    def concatenate(cls, several: Sequence[Trajectories]) -> Trajectories:
        """The episodes of several trajectories, in order; nothing is copied.

        Raises:
            DataError: If there are none, or their spaces or ``action_repeat`` differ.
        """
        if not several:
            raise DataError("no trajectories to concatenate; name at least one data set")
        first = several[0].info
        parts: list[Steps] = []
        episodes: list[IntArray] = []
        for index, other in enumerate(several):
            for what in ("observation_space", "action_space", "action_repeat"):
                mine, theirs = getattr(first, what), getattr(other.info, what)
                if mine != theirs:
                    raise DataError(
                        f"data set {index} ({other.info.env_id}) has {what} {theirs}, the first "
                        f"({first.env_id}) has {mine}; one set of trajectories needs the same"
                    )
            episodes.append(other.episodes + np.array([len(parts), 0, 0]))
            parts.extend(other.parts)
        source = tuple(digest for other in several for digest in other.info.source)
        names = {other.info.observation_names for other in several} - {()}  # older data have none
        if len(names) > 1:
            raise DataError(
                f"the data sets ({first.env_id}) name their observation scalars differently: "
                f"{' and '.join(map(str, sorted(names)))[:240]}; one set of trajectories needs the same"
            )
        info = replace(first, source=source, observation_names=next(iter(names), ()))
        return cls(tuple(parts), np.concatenate(episodes), info)

    @property
    def observation_dim(self) -> int:
        """``n``, scalars of the flat observation."""
        return ObservationCodec(self.info.observation_space, images=True).dim

    @property
    def action_dim(self) -> int:
        """``m``, scalars or components of an action."""
        return action_codec(self.info.action_space).dim

    @property
    def spec(self) -> ModelSpec:
        """The spec of a model of the environment that the data come from."""
        return spec_of(
            self.info.observation_space,
            self.info.action_space,
            action_repeat=self.info.action_repeat,
            terminates=self.terminates,
            observation_names=self.info.observation_names,
        )

    @property
    def num_episodes(self) -> int:
        """``E``."""
        return len(self.episodes)

    @property
    def num_decisions(self) -> int:
        """Decisions, that is transitions, in all episodes."""
        return int((self.episodes[:, 2] - 1).sum())

    @property
    def terminates(self) -> bool:
        """Whether any episode ended in termination, so that ``alive`` can be learned."""
        return any(not self.parts[part].alive[first + steps - 1] for part, first, steps in self.episodes)

    def episode(self, index: int) -> Decisions:
        """Views of one episode's arrays."""
        part, first, steps = self.episodes[index]
        rows = slice(first, first + steps)
        p = self.parts[part]
        return Decisions(p.observation[rows], p.reward[rows], p.action[rows], p.alive[rows])

    def iterate(self) -> Iterator[Decisions]:
        """Views of the arrays of each episode, in order."""
        return map(self.episode, range(self.num_episodes))

    def returns(self) -> FloatArray:
        """``[E]``, the sum of the rewards of each episode."""
        sums = [np.nansum(self.episode(e).reward, dtype=np.float64) for e in range(self.num_episodes)]
        return np.asarray(sums, np.float32)

    def with_terminal_reward(self, reward: float) -> Trajectories:
        """The same where the decision that terminated an episode earned ``reward`` more.

        The Trajectory Transformer's data of locomotion are made so, with -100 for a fall. Episodes that were
        cut off stay as they are.

        Args:
            reward: What an end earns besides.

        Raises:
            ValueError: If ``reward`` is not finite, or there are returns already.
        """
        if not math.isfinite(reward):
            raise WrongValueError(f"the terminal reward is {reward}; expected a finite number")
        if self.to_go:
            raise WrongValueError("returns are there already; expected with_returns() afterwards")
        rewards = [np.array(part.reward) for part in self.parts]
        for part, first, steps in self.episodes:
            last = first + steps - 1
            if not self.parts[part].alive[last]:
                rewards[part][last] += reward
        parts = (Rewarded(part, changed) for part, changed in zip(self.parts, rewards, strict=True))
        return replace(self, parts=tuple(parts))

    def with_returns(self, discount: float) -> Trajectories:
        """The same with what the reward of the rest of each episode sums to, which windows then have.

        An episode that was cut counts as if nothing came after it, as in the Trajectory Transformer.

        Args:
            discount: Factor per decision on later rewards, in (0, 1].

        Raises:
            ValueError: If ``discount`` is out of its range, or a reward is unknown, so that returns are.
        """
        if not 0.0 < discount <= 1.0:
            raise WrongValueError(f"discount is {discount}; expected a number in (0, 1]")
        found = tuple(np.zeros(len(part.reward), np.float32) for part in self.parts)
        for index, (part, of_part) in enumerate(zip(self.parts, found, strict=True)):
            reward = np.asarray(part.reward)
            _, first, steps = self.episodes[self.episodes[:, 0] == index].T
            sums = np.zeros(len(first))
            for back in range(1, int(steps.max(initial=1))):  # from the ends of all episodes to their starts
                going = steps > back
                at = (first + steps - 1 - back)[going]
                sums[going] = reward[at + 1] + discount * sums[going]
                of_part[at] = sums[going]
            if (unknown := np.isnan(sums)).any():
                rows = np.flatnonzero(self.episodes[:, 0] == index)
                raise WrongValueError(
                    f"episode {rows[unknown.argmax()]} has a reward that is NaN, so its returns are unknown; "
                    "leave it out, or use a model that does not learn from returns"
                )
        return replace(self, to_go=found)

    def select(self, episodes: IntArray) -> Trajectories:
        """The given episodes only; arrays are shared."""
        return replace(self, episodes=self.episodes[episodes])

    def split(self, held_out_fraction: float, seed: int) -> tuple[Trajectories, Trajectories]:
        """Training and held-out episodes; a function of the number of episodes and ``seed``.

        Args:
            held_out_fraction: Fraction of the episodes, in (0, 1); at least one is held out and one kept.
            seed: Seed of the choice.

        Raises:
            ValueError: If the fraction is outside (0, 1) or there are fewer than two episodes.
        """
        if not 0 < held_out_fraction < 1:
            raise WrongValueError(f"held_out_fraction is {held_out_fraction}; expected between 0 and 1")
        if self.num_episodes < 2:
            raise WrongValueError(f"{self.num_episodes} episode cannot be split; collect at least 2")
        count = min(max(round(held_out_fraction * self.num_episodes), 1), self.num_episodes - 1)
        order = np.random.default_rng(seed).permutation(self.num_episodes)
        return self.select(np.sort(order[count:])), self.select(np.sort(order[:count]))

    def windows(self, episode: IntArray, start: IntArray, steps: int) -> Batch:
        """A batch of copied windows.

        Args:
            episode: ``[B]``, the episode of each window.
            start: ``[B]``, first step of each window inside its episode.
            steps: ``T``; a window that runs past its episode is padded on the right.
        """
        part, first, length = self.episodes[episode].T
        step = start[:, None] + np.arange(steps)  # [B, T]
        valid = step < length[:, None]
        acted = step < length[:, None] - 1
        row = first[:, None] + np.minimum(step, length[:, None] - 1)
        observation = np.empty((*step.shape, self.parts[0].observation.shape[1]), np.float32)
        reward = np.empty(step.shape, np.float32)
        action = np.empty((*step.shape, self.parts[0].action.shape[1]), self.parts[0].action.dtype)
        alive = np.empty(step.shape, bool)
        to_go = np.zeros(step.shape, np.float32) if self.to_go else None
        for index, source in enumerate(self.parts):
            mine = part == index
            if not mine.any():
                continue
            rows = row[mine]
            observation[mine] = source.observation[rows]
            reward[mine] = source.reward[rows]
            action[mine] = source.action[rows]
            alive[mine] = source.alive[rows]
            if to_go is not None:
                to_go[mine] = self.to_go[index][rows]
        observation[~valid] = 0
        reward[~valid] = np.nan
        action[~acted] = 0
        alive &= valid
        if to_go is not None:
            to_go[~valid] = 0
        return Batch(
            observation=torch.from_numpy(observation),
            reward=torch.from_numpy(reward),
            action=torch.from_numpy(action),
            alive=torch.from_numpy(alive),
            valid=torch.from_numpy(valid),
            acted=torch.from_numpy(acted),
            to_go=None if to_go is None else torch.from_numpy(to_go),
        )
