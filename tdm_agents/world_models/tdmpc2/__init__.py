"""TD-MPC2: a latent world model with a value and a policy (Hansen, Su and Wang 2024, arXiv:2310.16828)."""
