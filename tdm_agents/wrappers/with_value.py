"""A wrapper that gives a world model a critic, which looks beyond the horizon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from tdm_agents.errors import WrongTypeError, WrongValueError
from tdm_agents.protocols import WorldModel, observation_of
from tdm_agents.wrappers.base import Observed, Wrapper
from tdm_agents.wrappers.given_models import ValuingModel, begun, check_same
from tdm_agents.wrappers.saved_parts import load_parts, save_parts
from tdm_agents.wrappers.sb3 import Predicts, check_tensor, check_trained_on, critic_of

S = TypeVar("S")

ValueFn = Callable[[Tensor], Tensor]
"""``fn(observation[N, n]) -> value[N]``, in the units of the rewards that are planned for."""


class WithValue(Wrapper[S]):
    """A world model whose value of a state, beyond the horizon, is that of a given critic.

    The critic sees one observation and no history. It replaces a value that ``model`` has; everything else
    stays ``model``'s. Planners add it to the rewards that they imagined, so it has to be in the same units:
    a critic of scaled rewards, or of another reward than the one planned for, misleads. A critic is
    discounted once per environment step: set the planner's ``discount`` to its ``gamma ** action_repeat``.

    Args:
        model: Any world model.
        critic: A Stable-Baselines3 algorithm or policy (PPO and A2C: the value function; SAC, TD3 and DDPG:
            the least of the critics at the actor's own action; DQN: the greatest Q), or any function
            ``observation[N, n] -> value[N]`` of flat observations, torch tensors in and out; or another world
            model that has a value, such as ``iql``, which takes every observation for the first of an
            episode.

    Raises:
        TypeError: If ``critic`` is none of these, or is a Stable-Baselines3 policy without a critic.
        ValueError: If ``critic`` was trained on other spaces or another time step than the model's.
    """

    critic: ValueFn | Predicts | ValuingModel

    def __init__(self, model: WorldModel[S], critic: ValueFn | Predicts | ValuingModel) -> None:
        super().__init__(model, critic)
        self.critic = critic
        fn: Any = critic_of(critic, model.spec) if isinstance(critic, Predicts) else critic
        if isinstance(critic, ValuingModel):
            check_same(critic, model.spec, "value")
            fn = _value_of(critic)
        elif not callable(fn):
            raise WrongTypeError(
                f"critic is a {type(critic).__name__}; expected a Stable-Baselines3 policy or algorithm, "
                "a function from observations [N, n] to values [N], or a world model that has a value (iql "
                "does)"
            )
        else:
            check_trained_on(critic, model.spec)
        self._value: ValueFn = fn

    @torch.no_grad()
    def value(self, state: Observed[S]) -> Tensor:
        """The critic's value of the present observation, ``[N]``.

        Raises:
            TypeError: If the critic returns something other than a tensor.
            ValueError: If the critic returns another shape, or the model imagines no observations and
                ``state`` is not the present one.
        """
        observation = observation_of(
            state,
            self.model,
            "a given critic",
            instead="use the model's own value if it has one, a longer horizon instead, or a model that "
            "imagines observations",
        )
        value = self._value(observation)
        check_tensor("the critic", value, (len(observation),))
        if value.shape != observation.shape[:1]:
            raise WrongValueError(
                f"the critic returned shape {tuple(value.shape)} for {len(observation)} observations; "
                f"expected [{len(observation)}], one value per row"
            )
        return value.to(observation)

    def save(self, folder: Path) -> None:
        """Write the model and the critic, which :meth:`load` reads.

        Raises:
            ValueError: If one of them is no model with weights.
        """
        save_parts(folder, "with_value", {"model": self.model, "value": self.critic})

    @classmethod
    def load(cls, folder: Path | str, *, device: str | torch.device = "cpu") -> WithValue[Any]:
        """The model that :meth:`save` wrote.

        Raises:
            CheckpointError: If a file is missing, truncated or altered.
        """
        (model, critic), _ = load_parts(folder, "with_value", ("model", "value"), device)
        return cls(model, critic)


def _value_of(model: ValuingModel) -> ValueFn:
    def value(observation: Tensor) -> Tensor:
        values: Tensor = model.value(begun(model, observation))
        return values

    return value
