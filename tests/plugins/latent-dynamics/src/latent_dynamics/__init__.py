"""A world model for tdm-agents that imagines in a latent space and decodes no observations."""

from latent_dynamics.model import LatentConfig, LatentModel

__all__ = ["LatentConfig", "LatentModel"]
