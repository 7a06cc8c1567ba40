"""An MLP of the dynamics beside an MLP of the behaviour: a small model that imagines and proposes.

A slow agent is distilled into it. ``planner="policy"`` executes the behaviour as it is, MPPI imagines with
the dynamics, and with ``num_policy`` the behaviour is among its candidates. The two share no weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Batch, ModelSpec, Preset, Proposal
from tdm_agents.world_models.mlp import MLPState, MLPWorldModel, linear_layer
from tdm_agents.world_models.mlp_config import MLPConfig

LOG_STD = (-5.0, 0.0)
"""Range of the logarithm of the noise of drawn actions."""


@dataclass(frozen=True, slots=True)
class MLPPolicyConfig(MLPConfig):
    """Settings of an :class:`MLPWithPolicy`: those of the dynamics, and of the behaviour.

    Attributes:
        policy_hidden: Width of the behaviour's hidden layers, from 1 to 65,536.
        policy_layers: Number of them, from 1 to 1,000.
        policy_weight: Weight of the behaviour's loss, at least 0.

    Raises:
        ValueError: If a setting makes no sense.
    """

    policy_hidden: int = 128
    policy_layers: int = 2
    policy_weight: float = 1.0

    def __post_init__(self) -> None:
        MLPConfig.__post_init__(self)  # super() does not work in a class with slots
        for name, most in (("policy_hidden", 65_536), ("policy_layers", 1_000)):
            if not 1 <= (value := getattr(self, name)) <= most:
                raise WrongValueError(
                    f"MLPPolicyConfig.{name} is {value}; expected at least 1 and at most {most:,}"
                )
        if not self.policy_weight >= 0.0:
            raise WrongValueError(
                f"MLPPolicyConfig.policy_weight is {self.policy_weight}; expected at least 0"
            )


class MLPWithPolicy(MLPWorldModel):
    """The dynamics of an :class:`MLPWorldModel`, and a policy of the present observation.

    Continuous actions are the tanh of the network's outputs, learned by squared error; the spread of draws
    around them is that of the examples, per action scalar. Discrete actions are learned by cross-entropy.

    Args:
        spec: What it models.
        config: Its settings.
        seed: Of the initial weights.
    """

    config_type: ClassVar[type[MLPConfig]] = MLPPolicyConfig
    name: ClassVar[str] = "mlp_policy"
    imitates_examples: ClassVar[bool] = True
    config: MLPPolicyConfig

    def __init__(self, spec: ModelSpec, config: MLPPolicyConfig | None = None, *, seed: int = 0) -> None:
        config = config if config is not None else MLPPolicyConfig()
        super().__init__(spec, config, seed=seed)
        # another seed than the dynamics', whose weights would otherwise be the same numbers
        generator = torch.Generator("cpu").manual_seed(int(seed) + 1)
        widths = [spec.observation_dim, *[config.policy_hidden] * config.policy_layers]
        self.policy_hidden = nn.ModuleList(
            linear_layer(i, o, generator) for i, o in itertools.pairwise(widths)
        )
        self.policy_head = linear_layer(widths[-1], sum(spec.action_choices) or spec.action_dim, generator)
        if spec.action_kind == "continuous":
            self.policy_log_std = nn.Parameter(
                torch.full((spec.action_dim,), -1.0, device="cpu", dtype=torch.float32)
            )

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """The defaults; the agent executes the policy."""
        return {"default": Preset(MLPPolicyConfig(), planner="policy")}

    def forward(
        self, batch: Batch, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the dynamics, if the batch holds a transition, and that of the behaviour.

        Args:
            batch: Windows; the behaviour imitates the actions that are examples.
            generator: Not used, since nothing is random.

        Raises:
            ValueError: If the batch holds neither a transition nor an example.
        """
        examples = _examples(batch)
        if not bool(examples.any()):
            return super().forward(batch, generator=generator)
        count = (self.counts(batch) if batch.counts is None else batch.counts)[2]
        loss, error = self._imitation(batch.observation[examples], batch.action[examples], count)
        total, metrics = self.config.policy_weight * loss, {"policy": error}
        if bool((batch.acted[:, :-1] & batch.valid[:, 1:]).any()):
            dynamics, others = super().forward(batch, generator=generator)
            total, metrics = total + dynamics, others | metrics
        return total, metrics

    def counts(self, batch: Batch) -> Tensor:
        """The numbers of transitions, known rewards and examples, ``[3]`` int64."""
        return torch.cat([super().counts(batch), _examples(batch).sum()[None]])

    def _imitation(self, observation: Tensor, action: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of examples ``[R, n]``, ``[R, m]`` out of ``count``, and its part worth a curve."""
        outputs = self._policy(observation)
        if self._spec.action_kind == "discrete":
            parts = zip(
                torch.split(outputs, list(self._spec.action_choices), -1), action.unbind(-1), strict=True
            )
            sums = [F.cross_entropy(logits, chosen, reduction="sum") for logits, chosen in parts]
            loss = torch.stack(sums).sum() / count
            return loss, loss.detach()
        error = torch.tanh(outputs) - action
        scalars = count * error.shape[1]
        squared = error.square().sum() / scalars
        log_std = self.policy_log_std.clamp(*LOG_STD)
        # the likelihood of the errors as they are: the spread follows them and does not weigh them
        spread = (0.5 * (error.detach() / log_std.exp()).square() + log_std).sum() / scalars
        return squared + spread, squared.detach()

    def _policy(self, observation: Tensor) -> Tensor:
        """What the behaviour's network says of observations ``[..., n]``; float32."""
        x = (observation - self.observation_mean) / self.observation_scale
        for layer in self.policy_hidden:
            x = F.silu(layer(x))
        outputs: Tensor = self.policy_head(x).float()
        return outputs

    @torch.no_grad()
    def propose(
        self,
        state: MLPState,
        count: int,
        *,
        generator: torch.Generator | None = None,
        deterministic: bool = False,
    ) -> Proposal:
        """``count`` actions per row, drawn or the likeliest ones; does not consume ``state``."""
        outputs = self._policy(state.observation)[:, None].expand(-1, count, -1)  # [N, count, ...]
        device = outputs.device
        if self._spec.action_kind == "discrete":
            chosen = []
            for logits in torch.split(outputs, list(self._spec.action_choices), -1):
                if not deterministic:
                    uniform = torch.rand(
                        logits.shape, generator=generator, device=device, dtype=torch.float32
                    )
                    logits = logits - uniform.clamp_min(1e-20).log().neg().log()  # Gumbel
                chosen.append(logits.argmax(dim=-1))
            return Proposal(torch.stack(chosen, dim=-1), None)
        mean = torch.tanh(outputs)
        if deterministic:
            return Proposal(mean, None)
        noise = torch.randn(mean.shape, generator=generator, device=device, dtype=torch.float32)
        drawn = mean + self.policy_log_std.clamp(*LOG_STD).exp() * noise
        return Proposal(drawn.clamp(-1.0, 1.0), None)


def _examples(batch: Batch) -> Tensor:
    """Where an action is one to imitate, ``[B, T]`` bool."""
    taken = batch.valid & batch.acted
    return taken if batch.example is None else taken & batch.example
