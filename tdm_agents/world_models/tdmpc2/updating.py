"""An update of TD-MPC2: its two optimizers, and one step of model, policy, targets and scale."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import ModelSpec, Optimizers, UpdateSettings
from tdm_agents.world_models.learned import finite_numbers
from tdm_agents.world_models.tdmpc2.latent_networks import LatentNetworks
from tdm_agents.world_models.tdmpc2.objectives import model_loss, policy_loss
from tdm_agents.world_models.tdmpc2.pieces import Pieces
from tdm_agents.world_models.tdmpc2.sizes import TDMPC2Config

SHARE = "share"
"""Of the learning rate, in a group of an optimizer."""


def optimizers_of(networks: LatentNetworks, config: TDMPC2Config, settings: UpdateSettings) -> Optimizers:
    """Adam of the model, slower for the encoder, and Adam of the policy.

    Args:
        networks: What they change.
        config: Learning rates.
        settings: Of the run.

    Raises:
        ValueError: If ``settings`` name a learning rate, clipping, decay or moments, which are not theirs to
            say.
    """
    refuse_other(settings)
    rate = config.learning_rate
    encoder = {"params": list(networks.encoder.parameters()), SHARE: config.encoder_rate}
    rest = {"params": networks.model_weights(), SHARE: 1.0}
    policy = {"params": list(networks.policy.parameters()), SHARE: 1.0}
    return {
        "model": torch.optim.Adam([encoder, rest], lr=rate, fused=True),
        "policy": torch.optim.Adam([policy], lr=rate, eps=1e-5, fused=True),
    }


def update(
    networks: LatentNetworks,
    pieces: Pieces,
    optimizers: Optimizers,
    config: TDMPC2Config,
    spec: ModelSpec,
    *,
    discount: Tensor,
    step: int,
    settings: UpdateSettings,
    generator: torch.Generator,
) -> Mapping[str, float]:
    """One step of model, policy, target networks and running scale.

    The policy's gradient is that of the values as they were before the step.

    Args:
        networks: What is changed.
        pieces: Of the data.
        optimizers: Those that :func:`optimizers_of` made.
        config: Weights of the losses, learning rates.
        spec: Of the model.
        discount: A scalar, or one per task.
        step: Number of updates made before.
        settings: Of the run.
        generator: The only source of randomness.

    Raises:
        NotFiniteError: If a loss or a gradient is not finite.
    """
    half = settings.bf16 or config.bf16
    with torch.autocast(generator.device.type, dtype=torch.bfloat16, enabled=half):
        loss = model_loss(networks, pieces, config, spec, discount=discount, generator=generator)
        policy, scale, metrics = policy_loss(networks, loss.latents, pieces, config, generator=generator)
    norms = {}
    for name, of in (("model", loss.total), ("policy", policy)):
        weights = [w for group in optimizers[name].param_groups for w in group["params"]]
        norms[f"gradient_norm_{name}"] = _gradient(of, weights, config.gradient_clip)
    numbers = finite_numbers({"loss": loss.total, "loss_policy": policy, **norms, **loss.parts, **metrics})
    rate = config.learning_rate * settings.rate(step) / settings.learning_rate
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = rate * group[SHARE]
        optimizer.step()
    if networks.tasks is not None:
        networks.tasks.clip()
    networks.scale.scale.copy_(scale)
    networks.targets_follow(config.tau)
    return {**numbers, "learning_rate": rate}


def _gradient(loss: Tensor, weights: list[nn.Parameter], clip: float) -> Tensor:
    """Set the gradient of these weights alone, clipped; returns its norm before."""
    for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
        weight.grad = gradient
    return nn.utils.clip_grad_norm_(weights, clip)


def refuse_other(settings: UpdateSettings) -> None:
    """Refuse settings of a run that TD-MPC2 has of its own; schedule and precision are the run's.

    Raises:
        ValueError: Naming the first that is not the default.
    """
    usual = UpdateSettings()
    own = {
        "learning_rate": "learning_rate",
        "grad_clip": "gradient_clip",
        "weight_decay": None,
        "betas": None,
    }
    for name, mine in own.items():
        if (value := getattr(settings, name)) != (default := getattr(usual, name)):
            remedy = f"set {mine} in --model-settings instead" if mine else "it has Adam as in the paper"
            raise WrongValueError(
                f"{name} is {value}, which TD-MPC2 does not read; expected it left at {default}: {remedy}"
            )
