"""Training: the loop, its schedule, and checkpoints from which it resumes exactly."""
