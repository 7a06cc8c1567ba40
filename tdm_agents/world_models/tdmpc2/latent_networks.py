"""The networks of TD-MPC2, and what they say of latent states."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tdm_agents.protocols import ModelSpec
from tdm_agents.spaces.images import images_of
from tdm_agents.world_models.tdmpc2.normed_layers import latent_perceptron, perceptron
from tdm_agents.world_models.tdmpc2.pixel_encoder import PixelEncoder
from tdm_agents.world_models.tdmpc2.policy_prior import Draw, policy_of
from tdm_agents.world_models.tdmpc2.q_ensemble import FIRST_TWO, QEnsemble
from tdm_agents.world_models.tdmpc2.running_scale import RunningScale
from tdm_agents.world_models.tdmpc2.sizes import TDMPC2Config
from tdm_agents.world_models.tdmpc2.symlog_bins import SymlogBins
from tdm_agents.world_models.tdmpc2.task_embeddings import TaskEmbeddings


class LatentNetworks(nn.Module):
    """Encoder, dynamics, reward, termination, policy, values, and the target networks of the values.

    Args:
        spec: Of the model; there is no termination where episodes do not end.
        config: Sizes.
        tasks: The embeddings of several tasks, which networks read beside what they read otherwise.
        generator: Of the weights.

    Raises:
        ValueError: If the observations hold images that are too small.
    """

    def __init__(
        self,
        spec: ModelSpec,
        config: TDMPC2Config,
        *,
        tasks: TaskEmbeddings | None = None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.observation_dim, self.action_dim = spec.observation_dim, spec.action_dim
        action = sum(spec.action_choices) or spec.action_dim
        latent, hidden = config.latent, (config.width, config.width)
        told = latent if tasks is None else latent + tasks.size
        self.encoder: nn.Module
        if images_of(spec.observation_space):
            self.encoder = PixelEncoder(spec, config, generator=generator)
        else:
            self.encoder = latent_perceptron(
                spec.observation_dim + told - latent,
                (config.encoder_width,) * (config.encoder_layers - 1),
                latent,
                group=config.group,
                generator=generator,
            )
        self.dynamics = latent_perceptron(
            told + action, hidden, latent, group=config.group, generator=generator
        )
        self.reward = perceptron(told + action, hidden, config.bins, generator=generator, zero=True)
        self.termination = perceptron(told, hidden, 1, generator=generator) if spec.terminates else None
        self.policy = policy_of(told, config.width, spec, generator=generator)
        self.q = QEnsemble(
            told + action,
            config.width,
            config.bins,
            members=config.members,
            dropout=config.dropout,
            generator=generator,
        )
        self.target_q = copy.deepcopy(self.q).requires_grad_(False)
        self.bins = SymlogBins(config.bins, config.bins_limit)
        self.scale = RunningScale(config.tau)
        self.tasks = tasks

    def model_weights(self) -> list[nn.Parameter]:
        """Everything that the model's loss trains, beside the encoder: neither policy nor targets."""
        parts: list[nn.Module] = [self.dynamics, self.reward, self.q]
        parts += [part for part in (self.termination, self.tasks) if part is not None]
        return [weight for part in parts for weight in part.parameters()]

    def summary(self) -> str:
        """The weights that are trained, and those that follow them."""
        trained = sum(weight.numel() for weight in self.parameters() if weight.requires_grad)
        every = sum(weight.numel() for weight in self.parameters())
        return f"{trained:,} parameters, and {every - trained:,} of target networks"

    def told(self, latent: Tensor, task: Tensor | None) -> Tensor:
        """Latent states ``[R, ..., z]`` as the other networks read them: beside their tasks ``[R]``, if any.

        The methods below take them as this returns them.
        """
        return latent if self.tasks is None else self.tasks.beside(latent, task)

    def moved(self, told: Tensor, encoded: Tensor) -> Tensor:
        """The next latent states ``[..., z]`` after actions ``[..., a]``, as networks read them."""
        following: Tensor = self.dynamics(_beside(told, encoded))
        return following

    def rewards(self, told: Tensor, encoded: Tensor) -> Tensor:
        """The logits ``[..., V]`` of the rewards of actions ``[..., a]`` in latent states."""
        logits: Tensor = self.reward(_beside(told, encoded))
        return logits

    def ends(self, told: Tensor) -> Tensor:
        """Logits ``[...]`` of the episode having ended in latent states."""
        if self.termination is None:
            return told.new_full(told.shape[:-1], -torch.inf)
        logits: Tensor = self.termination(told)
        return logits[..., 0]

    def acting(
        self,
        told: Tensor,
        task: Tensor | None,
        *,
        generator: torch.Generator | None,
        deterministic: bool = False,
    ) -> Draw:
        """The policy's action in each latent state, drawn or likeliest; 0 where a task has no actuator."""
        mask = None if self.tasks is None else self.tasks.mask_of(task, told)
        drawn: Draw = self.policy(told, mask, generator=generator, deterministic=deterministic)
        return drawn

    def worth(self, told: Tensor, task: Tensor | None) -> Tensor:
        """Values ``[...]`` of latent states: two members' mean, of the policy's mean action."""
        encoded = self.acting(told, task, generator=None, deterministic=True).encoded
        logits = self.q(_beside(told, encoded), members=FIRST_TWO)
        return self.bins.decode(logits).mean(dim=0)

    def encoded(
        self, observation: Tensor, task: Tensor | None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Latent states ``[R, ..., z]`` of observations ``[R, ..., n]``, in the dtype of the weights.

        Args:
            observation: The observations; of bytes where they are nothing but images.
            task: ``[R]`` int64, where there are several.
            generator: Of the random shift of images; None: none.
        """
        latent: Tensor
        if isinstance(self.encoder, PixelEncoder):
            latent = self.encoder(observation, generator=generator)
        else:
            latent = self.encoder(self.told(observation.to(next(self.encoder.parameters()).dtype), task))
        return latent

    def rounded(self) -> LatentNetworks:
        """A copy to imagine with, whose products are of bfloat16, but for the last layer of values."""
        copied = copy.deepcopy(self).requires_grad_(False)
        precise = (".norm.", "gains", "shifts", "q.weights.2", "q.biases.2")
        for name, weight in copied.named_parameters():
            if not any(part in name for part in precise):
                weight.data = weight.data.to(torch.bfloat16)
        return copied

    @torch.no_grad()
    def follow(self, others: LatentNetworks) -> None:
        """Take the weights of networks of the same sizes, rounded where these are of less precision."""
        torch._foreach_copy_(list(self.parameters()), list(others.parameters()))

    @torch.no_grad()
    def targets_follow(self, tau: float) -> None:
        """Move the target networks ``tau`` of the way to the networks."""
        torch._foreach_lerp_(list(self.target_q.parameters()), list(self.q.parameters()), tau)


def _beside(told: Tensor, encoded: Tensor) -> Tensor:
    return torch.cat([told, encoded.to(told.dtype)], dim=-1)
