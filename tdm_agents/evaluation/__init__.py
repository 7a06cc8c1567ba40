"""Evaluation: episodes on fixed seeds, statistics, reports, plots, video."""
