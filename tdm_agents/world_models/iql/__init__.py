"""Implicit Q-learning: value, Q and policy from recorded data alone."""
