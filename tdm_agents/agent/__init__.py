"""The agent, what it remembers, and its files."""

from tdm_agents.agent.agent import PREDICTED, TDMAgent

__all__ = ["PREDICTED", "TDMAgent"]
