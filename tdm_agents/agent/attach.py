"""Environments that tell the agent what happens in them: resets, rewards and ends.

A :class:`Link` holds what an attached environment has told and the agent has not read yet. The wrappers below
write it, :meth:`tdm_agents.TDMAgent.act` reads it; neither knows the other. The
``metadata["autoreset_mode"]`` of a vector environment (``gymnasium.vector.AutoresetMode``) says what it does
at the end of an episode:

- ``NEXT_STEP``: the last observation arrives with the end; the next step ignores the action, earns 0 and
  returns the first observation of the next episode. Nothing is planned for an ignored action.
- ``SAME_STEP``: the first observation of the next episode arrives with the end of the last one.
- ``DISABLED``: the caller resets ended rows with ``reset(options={"reset_mask": mask})``; nothing is planned
  for them until then. A plain ``gymnasium.Env`` is such a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper

from tdm_agents.agent.feedback import Feedback, Flags
from tdm_agents.env_checks import read_rewards, refuse_shared
from tdm_agents.errors import WrongOrderError, WrongTypeError, WrongValueError, retold
from tdm_agents.protocols import ModelSpec
from tdm_agents.spaces import difference
from tdm_agents.spaces.observations import is_flattened


class Link:
    """A record of what happened in ``B`` environments between two of the agent's decisions.

    Args:
        batch: The number of environments ``B``.
        mode: What the environments do at the end of an episode.

    Attributes:
        batch: The number of environments ``B``.
        mode: What the environments do at the end of an episode.
        cut: Whether the agent no longer listens to this environment.
    """

    def __init__(self, batch: int, mode: AutoresetMode) -> None:
        self.batch = batch
        self.mode = mode
        self.cut = False
        self._unread = False
        self._over = np.ones(batch, np.bool_)  # no episode has begun
        self._start = np.zeros(batch, np.bool_)
        self._reward = np.full(batch, np.nan)
        self._steps, self._seed = 0, "None"  # since the last reset

    def reset(self, mask: Flags | None = None, *, seed: object = None) -> None:
        """Take note that episodes began in the rows of ``mask`` ``[B]``, or in all, from ``seed``.

        Raises:
            RuntimeError: If the agent was attached to another environment in the meantime.
        """
        self._check()
        rows = np.ones(self.batch, np.bool_) if mask is None else np.asarray(mask, np.bool_)
        if not self._unread:  # the agent's last decision was not executed in any row
            self._start[:] = True
        self._start |= rows
        self._over &= ~rows
        self._unread = True
        self._steps, self._seed = 0, str(seed)

    def step(self, reward: Any, over: Any) -> None:
        """Take note of a step that earned ``reward`` ``[B]`` and ended the episodes ``over`` ``[B]``.

        Raises:
            RuntimeError: If the agent was attached to another environment in the meantime.
            ValueError: If a reward of an episode under way is not a finite number; the message names the
                step.
        """
        self._check()
        try:
            earned = read_rewards(reward, self.batch, where=~self._over)
        except ValueError as error:
            at = f"at environment step {self._steps} after reset(seed={self._seed})"
            raise retold(error, f"{at}: {error}") from error
        self._steps += 1
        over = np.array(over, np.bool_).reshape(self.batch)
        if self._unread:  # not the agent's action: what it remembers does not lead here
            self._start[:] = True
        if self.mode is AutoresetMode.NEXT_STEP:
            self._start |= self._over
            self._over = over
        elif self.mode is AutoresetMode.SAME_STEP:
            self._start |= over
            self._over = np.zeros_like(over)
        else:
            self._over = self._over | over
        self._reward = earned
        self._unread = True

    def feedback(self, batch: int) -> Feedback:
        """What the agent has to know when it acts; it then calls :meth:`read`.

        Raises:
            RuntimeError: If nothing has happened since the last :meth:`read`, or every episode is over.
            ValueError: If the observations are of another number of environments.
        """
        if not self._unread:
            raise WrongOrderError(
                "act() before the attached environment moved: call reset() or step() of the environment that "
                "attach() returned once before each act(); to act elsewhere, close() it first"
            )
        if batch != self.batch:
            raise WrongValueError(
                f"observations are of {batch} environments, the attached one has {self.batch}; pass act() "
                "what its reset() or step() returned"
            )
        if self.mode is AutoresetMode.DISABLED and self._over.all():
            raise WrongOrderError(
                "act() after the end of the episode: call reset() of the attached environment first"
            )
        # a reward beside a first observation belongs to the episode before
        reward = np.where(self._start, np.nan, self._reward)
        return Feedback.checked(self.batch, reward, self._start, ~self._over)

    def read(self) -> None:
        """Take note that the agent has acted on :meth:`feedback`."""
        self._start[:] = False
        self._unread = False

    def _check(self) -> None:
        if self.cut:
            raise WrongOrderError(
                "the agent was attached to another environment in the meantime; attach it to this one again "
                "to go on here, or make one agent per environment"
            )


class AttachedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """A wrapper that tells an agent what happens in an environment, and changes nothing else.

    Args:
        env: The environment.
        link: The record that it writes.
        on_close: Called when the environment is closed, because nobody listens any more.
    """

    def __init__(self, env: gym.Env[Any, Any], link: Link, on_close: Callable[[], None]) -> None:
        super().__init__(env)
        self._link, self._on_close = link, on_close

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment, and tell the agent."""
        result = self.env.reset(seed=seed, options=options)
        self._link.reset(seed=seed)
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment, and tell the agent."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._link.step(reward, terminated or truncated)
        return obs, reward, terminated, truncated, info

    def close(self) -> None:
        """Close the environment; the agent no longer listens."""
        self._on_close()
        super().close()


class AttachedVectorEnv(VectorWrapper):
    """A wrapper that tells an agent what happens in a vector environment, and changes nothing else.

    Args:
        env: The vector environment.
        link: The record that it writes.
        on_close: Called when the environment is closed, because nobody listens any more.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], link: Link, on_close: Callable[[], None]) -> None:
        super().__init__(env)
        self._link, self._on_close = link, on_close

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environments, or those of ``options["reset_mask"]``, and tell the agent.

        ``options`` stays as it was: Gymnasium takes the mask out of the dict that it is given, and a caller
        who passed the same dict again would reset every environment.
        """
        mask = None if options is None else options.get("reset_mask")
        # VectorEnv's own signature says int only, but its environments take lists as well
        seeds: Any = seed
        result = self.env.reset(seed=seeds, options=None if options is None else dict(options))
        self._link.reset(mask, seed=seed)
        return result

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step the environments, and tell the agent."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        self._link.step(reward, np.logical_or(terminated, truncated))
        return obs, reward, terminated, truncated, info

    def close(self, **kwargs: Any) -> None:
        """Close the environments; the agent no longer listens."""
        self._on_close()
        super().close(**kwargs)


def link_to(env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> Link:
    """A link that has the environment's size and mode.

    Raises:
        TypeError: If ``env`` is neither a ``gymnasium.Env`` nor a ``VectorEnv``; the message has the remedy.
        ValueError: If a vector environment does not say what it does at the end of an episode, or two of its
            members are the same object.
    """
    if isinstance(env, VectorEnv):
        mode = env.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise WrongValueError(
                f'{env} has metadata["autoreset_mode"] {mode!r}; expected a gymnasium.vector.AutoresetMode: '
                "set the one that it has, or do without attach() and pass reward= and episode_start= to act()"
            )
        if isinstance(env.unwrapped, SyncVectorEnv):
            refuse_shared(env.unwrapped.envs)
        return Link(env.num_envs, mode)
    if isinstance(env, gym.Env):
        return Link(1, AutoresetMode.NEXT_STEP if _resets_itself(env) else AutoresetMode.DISABLED)
    raise WrongTypeError(
        f"{type(env).__name__} cannot be attached to: expected a gymnasium.Env or "
        "gymnasium.vector.VectorEnv; in a loop over Stable-Baselines3's VecEnv, call "
        "agent.predict(obs, state, episode_start)"
    )


def check_spaces(
    spec: ModelSpec, env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any], env_id: str | None
) -> None:
    """Refuse an environment, or a vector environment, whose spaces are not the model's.

    Observations that ``FlattenObservation`` has flattened are the model's too.

    Args:
        spec: The model's spec.
        env: The environment.
        env_id: The environment that the model was made for, to be named in the error.

    Raises:
        ValueError: If a space differs; the message names the first difference and the remedy.
    """
    observation, action = env.observation_space, env.action_space
    if isinstance(env, VectorEnv):
        observation, action = env.single_observation_space, env.single_action_space
    for name, ours, theirs in (
        ("observation_space", spec.observation_space, observation),
        ("action_space", spec.action_space, action),
    ):
        if name == "observation_space" and is_flattened(ours, theirs):
            continue
        if name == "action_space" and _takes_any(theirs, ours):
            continue
        if found := difference(ours, theirs, name):
            made_for = f" ({env_id})" if env_id else ""
            raise WrongValueError(
                f"{found}; pass the environment that the model was made for{made_for}, "
                "without wrappers that change its spaces, or train a model for this one"
            )


def _takes_any(theirs: spaces.Space[Any], ours: spaces.Space[Any]) -> bool:
    """Whether actions have no bounds, behind ``gymnasium.wrappers.ClipAction`` for example; ours have."""
    if not (isinstance(theirs, spaces.Box) and isinstance(ours, spaces.Box)):
        return False
    return theirs.shape == ours.shape and not (theirs.bounded_below | theirs.bounded_above).any()


def _resets_itself(env: gym.Env[Any, Any]) -> bool:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.wrappers.Autoreset):
            return True
        env = env.env
    return False
