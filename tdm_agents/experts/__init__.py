"""Experts that have to be trained: policies of Stable-Baselines3."""
