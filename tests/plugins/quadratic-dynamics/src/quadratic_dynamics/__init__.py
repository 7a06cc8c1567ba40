"""A world model for tdm-agents that is quadratic in observation and action."""

from quadratic_dynamics.model import QuadraticConfig, QuadraticModel

__all__ = ["QuadraticConfig", "QuadraticModel"]
