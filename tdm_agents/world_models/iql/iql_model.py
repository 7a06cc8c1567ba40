"""Implicit Q-learning: a value, a Q-function and a policy that are learned from recorded data alone.

Kostrikov, Nair and Levine 2021, "Offline Reinforcement Learning with Implicit Q-Learning" (arXiv:2110.06169).
No action outside of the data is ever asked about: the value is an expectile of the Qs of the data's actions,
Q is learned from that value, and the policy imitates the better actions. Beside them is an MLP of the
dynamics, so that the model plans by itself too; it shares no weights with them.

What differs from the paper: observations are normalised, and all three losses are of the weights as they were
before the update (the paper's code updates the value first).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from tdm_agents.protocols import Batch, MicroBatches, ModelSpec, Optimizers, Preset, Proposal, UpdateSettings
from tdm_agents.world_models.iql.iql_config import PRESETS, IQLConfig
from tdm_agents.world_models.iql.iql_losses import advantage_weight, expectile_loss, q_target
from tdm_agents.world_models.iql.iql_networks import IQLNetworks
from tdm_agents.world_models.learned import finite_numbers
from tdm_agents.world_models.micro_batches import backward
from tdm_agents.world_models.mlp import MLPState, MLPWorldModel
from tdm_agents.world_models.mlp_config import MLPConfig
from tdm_agents.world_models.one_step import Transitions

if TYPE_CHECKING:
    from tdm_agents.data.trajectories import Trajectories


class IQL(MLPWorldModel):
    """The value, Q and policy of implicit Q-learning, beside the dynamics of an :class:`MLPWorldModel`.

    It is a policy of its own (planner ``policy``), proposes actions and knows what a state is worth, for
    itself and around any other model (:class:`~tdm_agents.wrappers.WithProposal`,
    :class:`~tdm_agents.wrappers.WithValue`).

    Args:
        spec: What it models.
        config: Its settings.
        seed: Of the initial weights.
    """

    config_type: ClassVar[type[MLPConfig]] = IQLConfig
    name: ClassVar[str] = "iql"
    config: IQLConfig
    reward_scale: Tensor

    def __init__(self, spec: ModelSpec, config: IQLConfig | None = None, *, seed: int = 0) -> None:
        config = config if config is not None else IQLConfig()
        super().__init__(spec, config, seed=seed)
        # another seed than the dynamics', whose weights would otherwise be the same numbers
        generator = torch.Generator("cpu").manual_seed(int(seed) + 1)
        self.learned = IQLNetworks(self._spec, config, generator)
        scale = 1.0 if config.reward_scale is None else config.reward_scale
        self.register_buffer("reward_scale", torch.tensor(scale, device="cpu", dtype=torch.float32))

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """The paper's settings for dense rewards (``locomotion``, the default) and sparse ones."""
        return PRESETS

    def fit(self, data: Mapping[str, Trajectories]) -> None:
        """Set the normalisation from the data of the one environment, and the scale of rewards.

        Raises:
            ValueError: If the data hold no transition, or observations of another size.
        """
        super().fit(data)
        if self.config.reward_scale is None:
            (trajectories,) = data.values()
            returns = [float(np.nansum(e.reward, dtype=np.float64)) for e in trajectories.iterate()]
            spread = max(returns) - min(returns)
            longest = int(trajectories.episodes[:, 2].max()) - 1
            self.reward_scale.fill_(longest / spread if spread > 0.0 else 1.0)

    def forward(
        self, batch: Batch, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The losses of the dynamics, the value, Q and the policy; each has weights of its own.

        Args:
            batch: Windows of at least two steps.
            generator: Not used, since nothing is random.

        Raises:
            ValueError: If the batch holds no transition.
        """
        total, metrics = super().forward(batch, generator=generator)
        with torch.autocast(total.device.type, enabled=False):  # values are larger than bfloat16 is exact
            for name, loss in self._losses(batch).items():
                total, metrics[name] = total + loss, loss.detach()
        return total, metrics

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        config, networks, some = self.config, self.learned, Transitions.of(batch)
        moves, rewards = self.counts(batch) if batch.counts is None else batch.counts
        now, after = self._normalised(some.now), self._normalised(some.after)
        inputs = self.inputs(some.now, some.action)
        values, q = networks.values(now), networks.target_q(inputs)
        reward = self.reward_scale * (some.reward + config.reward_shift)
        with torch.no_grad():
            target = q_target(reward, some.alive, networks.values(after), config.discount)
            weight = advantage_weight(q - values, config.beta)
        error = (networks.both_qs(inputs) - target).square() * some.known
        return {
            "value": expectile_loss(q - values, config.expectile).sum() / moves,
            "q": error.sum() / rewards.clamp(min=1),
            "policy": -(weight * networks.log_prob(now, some.action)).sum() / moves,
        }

    def _normalised(self, observation: Tensor) -> Tensor:
        return (observation - self.observation_mean) / self.observation_scale

    def optimizers(self, settings: UpdateSettings) -> Optimizers:
        """AdamW of the dynamics with the run's settings, and Adam of the rest with the model's own."""
        own = {id(weight) for weight in self.learned.parameters()}
        rate = self.config.iql_rate
        return {
            "dynamics": self.adamw([w for w in self.parameters() if id(w) not in own], settings),
            "critic": torch.optim.Adam(self.learned.critic_weights(), lr=rate, fused=True),
            "policy": torch.optim.Adam(self.learned.policy_weights(), lr=rate, fused=True),
        }

    def update(
        self,
        batch: Batch | MicroBatches,
        optimizers: Optimizers,
        *,
        step: int,
        settings: UpdateSettings,
        generator: torch.Generator,
    ) -> Mapping[str, float]:
        """One step of dynamics, value, Q, policy and target networks.

        Raises:
            NotFiniteError: If the loss or a gradient is not finite.
            ValueError: If the batch holds no transition.
        """
        rates = {
            "dynamics": settings.rate(step),
            "critic": self.config.iql_rate,
            "policy": self.config.iql_rate * 0.5 * (1.0 + math.cos(math.pi * step / settings.steps)),
        }
        for optimizer in optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        loss, metrics = backward(self, batch, generator=generator, bf16=settings.bf16)
        # only the dynamics' gradient is clipped: the paper clips none
        most = {"dynamics": settings.grad_clip}
        norms = {
            f"gradient_norm_{name}": nn.utils.clip_grad_norm_(_weights(optimizer), most.get(name, math.inf))
            for name, optimizer in optimizers.items()
        }
        numbers = finite_numbers({"loss": loss, **norms, **metrics})
        for name, optimizer in optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = rates[name]
            optimizer.step()
        self.learned.targets_follow(self.config.tau)
        return {**numbers, "learning_rate": rates["dynamics"]}

    @property
    def discount(self) -> float:
        """Factor per decision on later rewards."""
        config: IQLConfig = self.config
        return config.discount

    @torch.no_grad()
    def value(self, state: MLPState) -> Tensor:
        """The value ``[N]`` of the present observations, in the units of the reward (shifted, if it is).

        Rewards are discounted by ``config.discount`` per decision. Does not consume ``state``.
        """
        return self.learned.values(self._normalised(state.observation)) / self.reward_scale

    @torch.no_grad()
    def propose(
        self,
        state: MLPState,
        count: int,
        *,
        generator: torch.Generator | None = None,
        deterministic: bool = False,
    ) -> Proposal:
        """``count`` actions of the policy per row, drawn or the likeliest; does not consume ``state``."""
        observation = self._normalised(state.observation)[:, None].expand(-1, count, -1)
        actions = self.learned.actions(observation, generator=generator, best=deterministic)
        return Proposal(actions)


def _weights(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]
