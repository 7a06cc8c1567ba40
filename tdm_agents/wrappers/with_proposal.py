"""A wrapper that gives a world model a policy to propose actions with."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from tdm_agents.errors import WrongTypeError, WrongValueError
from tdm_agents.protocols import Proposal, WorldModel, observation_of
from tdm_agents.wrappers.base import Observed, Wrapper
from tdm_agents.wrappers.given_models import ProposingModel, begun, check_same
from tdm_agents.wrappers.saved_parts import load_parts, save_parts
from tdm_agents.wrappers.sb3 import Predicts, check_tensor, check_trained_on, predicted_actions

S = TypeVar("S")

ActionFn = Callable[[Tensor], Tensor]
"""``fn(observation[N, n]) -> action[N, m]``: float in [-1, 1], or int64 where actions are discrete."""


class WithProposal(Wrapper[S]):
    """A world model that proposes the actions of a given policy at imagined observations.

    The policy sees one observation and no history. It replaces a proposal that ``model`` has; everything
    else stays ``model``'s.

    Args:
        model: Any world model.
        policy: A Stable-Baselines3 algorithm or policy (anything with its ``predict``), which gets
            observations of the environment's own space and answers in the environment's units; or any
            function ``observation[N, n] -> action[N, m]`` of flat observations, in [-1, 1] (int64 where
            actions are discrete), torch tensors in and out; or another world model that proposes, such as a
            distilled student, which takes every observation for the first of an episode. An algorithm
            trained under ``VecNormalize`` saw other observations: pass a function that normalises first.
        std: Standard deviation of Gaussian noise, in units of [-1, 1], around the actions that are proposed
            where ``deterministic`` is False. A function is asked once per observation, so without noise all
            its proposals are equal. Continuous actions only.

    Raises:
        TypeError: If ``policy`` is none of these.
        ValueError: If ``policy`` was trained on other spaces or another time step than the model's, or
            ``std`` is negative, or positive where actions are discrete.
    """

    policy: ActionFn | Predicts | ProposingModel
    std: float

    def __init__(
        self, model: WorldModel[S], policy: ActionFn | Predicts | ProposingModel, std: float = 0.0
    ) -> None:
        super().__init__(model, policy, std)
        if not (isinstance(policy, Predicts | ProposingModel) or callable(policy)):
            raise WrongTypeError(
                f"policy is a {type(policy).__name__}; expected something with Stable-Baselines3's "
                "predict(), a function from observations [N, n] to actions [N, m], or a world model that "
                "proposes (mlp_policy and iql do)"
            )
        if isinstance(policy, ProposingModel):
            check_same(policy, self.spec, "propose")
        else:
            check_trained_on(policy, self.spec)
        if not (math.isfinite(std) and std >= 0.0):
            raise WrongValueError(f"std is {std}; expected a finite number of at least 0")
        if std > 0.0 and self.spec.action_kind == "discrete":
            raise WrongValueError(
                f"std is {std}, but actions are discrete; expected 0, or a policy that samples"
            )
        self.policy = policy
        self.std = std

    def around(self, model: WorldModel[Any]) -> WithProposal[Any]:
        """The same around another model, with the present noise."""
        return WithProposal(model, self.policy, self.std)

    @torch.no_grad()
    def propose(
        self,
        state: Observed[S],
        count: int,
        *,
        generator: torch.Generator | None = None,
        deterministic: bool = False,
    ) -> Proposal:
        """``count`` actions of the policy per row, ``[N, count, m]``, without their probabilities.

        Args:
            state: ``N`` rows; stays usable.
            count: Actions per row, at least 1.
            generator: Source of randomness of the noise, and of a Stable-Baselines3 policy's draws.
            deterministic: The policy's mean or most likely action, ``count`` times, without noise.

        Raises:
            TypeError: If a function returns something other than a tensor.
            ValueError: If the policy returns another shape, or the model imagines no observations and
                ``state`` is not the present one.
        """
        observation = observation_of(
            state,
            self.model,
            "a given policy",
            instead="use the model's own proposal if it has one, or a model that imagines observations; the "
            "planner 'policy' with horizon=1 asks about the present alone",
        )
        spec = self.spec
        shape = (observation.shape[0], count, spec.action_dim)
        if isinstance(self.policy, ProposingModel):
            state_here = begun(self.policy, observation)
            proposed = self.policy.propose(
                state_here, count, generator=generator, deterministic=deterministic
            )
            actions = proposed.actions
        elif isinstance(self.policy, Predicts) and not deterministic:
            # a policy that samples: every candidate is a separate draw
            asked = observation.repeat_interleave(count, dim=0)
            actions = predicted_actions(self.policy, spec, asked, deterministic=False, generator=generator)
            actions = actions.view(shape)
        else:
            if isinstance(self.policy, Predicts):
                actions = predicted_actions(self.policy, spec, observation, deterministic=True)
            else:
                actions = self._asked(self.policy, observation)
            actions = actions[:, None].expand(shape)
        if self.std > 0.0 and not deterministic:
            noise = torch.randn(shape, generator=generator, device=actions.device, dtype=actions.dtype)
            actions = (actions + self.std * noise).clamp(-1.0, 1.0)
        return Proposal(actions.contiguous())

    def save(self, folder: Path) -> None:
        """Write the model and the one that proposes, which :meth:`load` reads.

        Raises:
            ValueError: If one of them is no model with weights.
        """
        save_parts(folder, "with_proposal", {"model": self.model, "proposal": self.policy}, std=self.std)

    @classmethod
    def load(cls, folder: Path | str, *, device: str | torch.device = "cpu") -> WithProposal[Any]:
        """The model that :meth:`save` wrote.

        Raises:
            CheckpointError: If a file is missing, truncated or altered.
        """
        (model, policy), settings = load_parts(folder, "with_proposal", ("model", "proposal"), device)
        return cls(model, policy, **settings)

    def _asked(self, policy: ActionFn, observation: Tensor) -> Tensor:
        spec = self.spec
        actions = policy(observation)
        expected = (observation.shape[0], spec.action_dim)
        check_tensor("the proposal policy", actions, expected)
        if tuple(actions.shape) != expected:
            raise WrongValueError(
                f"the proposal policy returned shape {tuple(actions.shape)} for {expected[0]} observations; "
                f"expected {expected}, one action [m] per row"
            )
        return actions.to(spec.device, torch.int64 if spec.action_kind == "discrete" else spec.dtype)
