"""Dreamer V2's dynamics, trained alone: a recurrent state-space model with discrete latents."""
