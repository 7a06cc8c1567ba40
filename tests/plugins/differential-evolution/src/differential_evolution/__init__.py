"""Differential evolution over action sequences, a planner for tdm-agents."""

from differential_evolution.planner import DifferentialEvolution

__all__ = ["DifferentialEvolution"]
