"""Distillation: a small fast model learns what a slow agent imagines and decides."""
