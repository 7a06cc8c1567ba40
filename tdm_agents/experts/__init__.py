"""Policies that do a task well, to learn from and to compare with: tuned planners, and SB3 training."""
