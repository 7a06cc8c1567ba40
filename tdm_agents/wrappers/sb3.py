"""Stable-Baselines3 policies and critics asked about imagined observations.

They are recognised by their methods alone: nothing here imports Stable-Baselines3, so that policies of other
packages with the same methods (``sb3-contrib``, one's own) are asked the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from tdm_agents.errors import WrongTypeError, WrongValueError
from tdm_agents.protocols import ModelSpec
from tdm_agents.spaces import ObservationCodec, action_codec, difference


@runtime_checkable
class Predicts(Protocol):
    """A Stable-Baselines3 algorithm or policy, with the method that ``evaluate_policy`` calls."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """Actions of a batch of observations, and the policy's own state."""
        ...


def predicted_actions(
    policy: Predicts,
    spec: ModelSpec,
    observation: Tensor,
    *,
    deterministic: bool,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A policy's actions, in the form of a world model's.

    Args:
        policy: The policy, which gets no state: a recurrent one takes every observation for a first one.
        spec: Spec of the world model.
        observation: ``[N, n]``.
        deterministic: Mean or most likely actions instead of sampled ones.
        generator: Source of randomness of sampled actions; None leaves it to the policy.

    Returns:
        ``[N, m]``: in [-1, 1], or int64 where actions are discrete.

    Raises:
        ValueError: If the policy does not return one action of the environment's space per row.
    """
    asked = policy_of(policy)
    with draws_from(generator):
        answer, _ = asked.predict(
            batched_observation(spec.observation_space, observation), None, None, deterministic
        )
    actions = np.asarray(answer)
    shape = (observation.shape[0], *(spec.action_space.shape or ()))
    if actions.shape != shape:
        raise WrongValueError(
            f"{type(policy).__name__}.predict returned shape {actions.shape} for {shape[0]} observations; "
            f"expected {shape}: was it trained on the model's environment?"
        )
    encoded = action_codec(spec.action_space).encode(actions)
    dtype = torch.int64 if spec.action_kind == "discrete" else spec.dtype
    return torch.from_numpy(encoded).to(spec.device, dtype)


def critic_of(policy: Predicts, spec: ModelSpec) -> Callable[[Tensor], Tensor]:
    """A policy's critic, as a function ``observation[N, n] -> value[N]``.

    Raises:
        TypeError: If the policy has none of the critics known here.
    """
    inner: Any = policy_of(policy)
    ask: Callable[[Any], Tensor]
    if hasattr(inner, "predict_values"):  # PPO, A2C
        ask = inner.predict_values
    elif hasattr(inner, "q_net"):  # DQN

        def ask(observation: Any) -> Tensor:
            best: Tensor = inner.q_net(observation).amax(dim=1)
            return best
    elif hasattr(inner, "actor") and hasattr(inner, "critic"):  # SAC, TD3, DDPG

        def ask(observation: Any) -> Tensor:
            # actor and critics use actions in [-1, 1]; _predict is the actor's mean
            action = inner._predict(observation, deterministic=True)
            least: Tensor = torch.cat(inner.critic(observation, action), dim=1).amin(dim=1)
            return least
    else:
        raise WrongTypeError(
            f"{type(policy).__name__} has no known critic (that of PPO, A2C, SAC, TD3, DDPG or "
            "DQN); pass a function from observations [N, n] to values [N]"
        )

    def value(observation: Tensor) -> Tensor:
        inner.set_training_mode(False)
        tensors, _ = inner.obs_to_tensor(batched_observation(spec.observation_space, observation))
        return ask(tensors).reshape(-1)

    return value


def batched_observation(space: spaces.Space[Any], flat: Tensor) -> Any:
    """Turn ``[N, n]`` into a batch of observations of ``space`` in NumPy, as vector environments return it.

    It is the inverse of :meth:`tdm_agents.spaces.ObservationCodec.flatten`, for all rows at once. Of imagined
    categories the likeliest is taken.
    """
    return _in_own_dtype(space, ObservationCodec(space).unflatten(flat.detach().cpu().numpy()))


def _in_own_dtype(space: spaces.Space[Any], value: Any) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _in_own_dtype(child, value[key]) for key, child in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_in_own_dtype(child, part) for child, part in zip(space, value, strict=True))
    return value.astype(space.dtype)


def check_tensor(who: str, answer: Any, shape: tuple[int, ...]) -> None:
    """Raise a ``TypeError`` that says what ``who`` returned and what is expected, unless it is a tensor."""
    if not isinstance(answer, Tensor):
        kind = "NumPy array" if isinstance(answer, np.ndarray) else type(answer).__name__
        raise WrongTypeError(
            f"{who} returned a {kind}; expected a torch.Tensor of shape {shape}, like its argument "
            "(torch.as_tensor(...) converts an array)"
        )


def check_trained_on(policy: Any, spec: ModelSpec) -> None:
    """Refuse a policy whose recorded spaces differ from the model's; a policy may have none recorded.

    Raises:
        ValueError: If its observations have another structure, or its actions another space.
    """
    flaw = other_space(policy, spec.observation_space, spec.action_space, "the model's")
    if flaw is not None:
        raise WrongValueError(
            f"{flaw}: expected a policy that was trained on the model's environment; if it was trained "
            "behind wrappers, pass a function of flat observations that does what they do"
        )


def other_space(
    policy: Any, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], whose: str
) -> str | None:
    """The space of a policy's training that differs from ``whose``, in words; None where none is known to.

    Observations need the same structure, whatever their dtypes and bounds; actions the same bounds, because
    Stable-Baselines3 answers in the units of the space that it was trained on.
    """
    observed = getattr(policy, "observation_space", observation_space)
    acted = getattr(policy, "action_space", action_space)
    for what, trained, here, same in (
        ("observation_space", observed, observation_space, same_structure(observed, observation_space)),
        ("action_space", acted, action_space, difference(action_space, acted, "action_space") is None),
    ):
        if not same:
            return f"{what} of {type(policy).__name__} is {trained}, {whose} is {here}"
    return None


def same_structure(one: spaces.Space[Any], other: spaces.Space[Any]) -> bool:
    """Whether observations have the same structure, whatever their dtypes and bounds."""
    if isinstance(one, spaces.Dict) and isinstance(other, spaces.Dict):
        return one.keys() == other.keys() and all(same_structure(one[k], other[k]) for k in one)
    if isinstance(one, spaces.Box) and isinstance(other, spaces.Box):
        return one.shape == other.shape
    return one == other


def policy_of(policy: Predicts) -> Predicts:
    """The policy inside an algorithm, since DQN's own ``predict`` explores with NumPy's global randomness."""
    inner = getattr(policy, "policy", None)
    return inner if isinstance(inner, Predicts) else policy


@contextmanager
def draws_from(generator: torch.Generator | None) -> Iterator[None]:
    """Make torch's global randomness, which is all that SB3 draws from, follow ``generator``."""
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(int(seed))
        yield
