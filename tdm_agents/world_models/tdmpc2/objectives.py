"""What TD-MPC2 minimises: the model's loss over imagined pieces, and the policy's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tdm_agents.protocols import ModelSpec
from tdm_agents.world_models.tdmpc2.latent_networks import LatentNetworks
from tdm_agents.world_models.tdmpc2.pieces import Pieces
from tdm_agents.world_models.tdmpc2.policy_prior import encoded_action
from tdm_agents.world_models.tdmpc2.q_ensemble import two_of
from tdm_agents.world_models.tdmpc2.sizes import TDMPC2Config


@dataclass(frozen=True, slots=True)
class ModelLoss:
    """The loss of the model, and the states that it went through.

    Attributes:
        total: A scalar.
        parts: Its unweighted terms, detached.
        latents: ``[R, H + 1, z]``, the encoded first state and the imagined ones; detached.
    """

    total: Tensor
    parts: Mapping[str, Tensor]
    latents: Tensor


@torch.no_grad()
def td_target(
    networks: LatentNetworks,
    pieces: Pieces,
    after: Tensor,
    *,
    discount: Tensor,
    generator: torch.Generator | None,
) -> Tensor:
    """What the values of the actions taken should be, ``[R, H]``.

    The reward, and unless the episode ended the discounted value of the policy's next action: the lower of
    what two random target networks say.

    Args:
        networks: The networks.
        pieces: Of the data.
        after: Encoded observations after each transition, ``[R, H, z]``.
        discount: A scalar, or one per task.
        generator: Of the action and of the choice of networks; None: the mean action and the first two.
    """
    task, after = pieces.task, networks.told(after, pieces.task)
    drawn = networks.acting(after, task, generator=generator, deterministic=generator is None)
    both = torch.cat([after, drawn.encoded], dim=-1)
    discount = discount if task is None else discount[task][:, None]
    logits = networks.target_q(both, members=two_of(len(networks.target_q.weights[0]), generator))
    beyond = networks.bins.decode(logits).amin(dim=0)
    return pieces.reward + discount * pieces.alive * beyond


def model_loss(
    networks: LatentNetworks,
    pieces: Pieces,
    config: TDMPC2Config,
    spec: ModelSpec,
    *,
    discount: Tensor,
    generator: torch.Generator | None,
) -> ModelLoss:
    """Errors of latent states, rewards, values and ends along imagined transitions.

    The mean over the real transitions, each weighted by ``rho`` to the power of its place in the piece.

    Args:
        networks: The networks.
        pieces: Of the data.
        config: Weights of the terms.
        spec: Of the model.
        discount: A scalar, or one per task.
        generator: Of the targets, of the dropout and of the shift of images; None: nothing is random.
    """
    encoded, task = encoded_action(pieces.action, spec), pieces.task
    with torch.no_grad():
        after = networks.encoded(pieces.observation[:, 1:], task, generator=generator)
    target = td_target(networks, pieces, after, discount=discount, generator=generator)
    latents = [networks.encoded(pieces.observation[:, 0], task, generator=generator)]
    for t in range(encoded.shape[1]):
        latents.append(networks.moved(networks.told(latents[-1], task), encoded[:, t]))
    path = torch.stack(latents, dim=1)  # [R, H+1, z]
    told = networks.told(path, task)
    rewards = networks.rewards(told[:, :-1], encoded)  # [R, H, V]
    q = networks.q(torch.cat([told[:, :-1], encoded], dim=-1), generator=generator)  # [E, R, H, V]
    rho = config.rho ** torch.arange(encoded.shape[1], device=path.device, dtype=path.dtype)  # [H]

    def mean(error: Tensor, counts: Tensor) -> Tensor:
        return (rho * error.where(counts, 0.0)).sum() / counts.sum().clamp_min(1)

    terms = {
        "consistency": mean((path[:, 1:] - after).square().mean(dim=-1), pieces.real),
        "reward": mean(networks.bins.cross_entropy(rewards, pieces.reward), pieces.known),
        "value": mean(networks.bins.cross_entropy(q, target).mean(dim=0), pieces.known),
    }
    if spec.terminates:
        ended = (~pieces.alive).to(path.dtype)
        error = F.binary_cross_entropy_with_logits(networks.ends(told[:, 1:]), ended, reduction="none")
        # ends are not weighted by how far ahead they are
        terms["termination"] = error.where(pieces.real, 0.0).sum() / pieces.real.sum().clamp_min(1)
    total = torch.stack([getattr(config, f"{name}_weight") * term for name, term in terms.items()]).sum()
    return ModelLoss(total, {name: term.detach() for name, term in terms.items()}, path.detach())


def policy_loss(
    networks: LatentNetworks,
    latents: Tensor,
    pieces: Pieces,
    config: TDMPC2Config,
    *,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
    """The policy's loss: less of its value, in units of the running scale, and of its entropy.

    Args:
        networks: The networks; only the policy is meant to follow the gradient.
        latents: ``[R, H + 1, z]``, detached.
        pieces: Of the data that they are of.
        config: Weights.
        generator: Of the actions and of the choice of two networks.

    Returns:
        The loss, the running scale after it, and detached metrics.
    """
    reached, told = pieces.reached, networks.told(latents, pieces.task).detach()
    drawn = networks.acting(told, pieces.task, generator=generator)
    members = two_of(len(networks.q.weights[0]), generator)
    logits = networks.q(torch.cat([told, drawn.encoded], dim=-1), members=members)
    value = networks.bins.decode(logits).mean(dim=0)  # [R, H+1]
    scale = networks.scale.after(value[:, 0], reached[:, 0])
    gain = config.entropy_weight * drawn.entropy + value / scale
    rho = config.rho ** torch.arange(latents.shape[1], device=latents.device, dtype=gain.dtype)
    loss = -(rho * gain.where(reached, 0.0)).sum() / reached.sum()
    entropy = drawn.entropy.detach().where(reached, 0.0).sum() / reached.sum()
    return loss, scale, {"policy_entropy": entropy, "policy_scale": scale}
