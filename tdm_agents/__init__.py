"""A Gymnasium agent that thinks before it acts."""
