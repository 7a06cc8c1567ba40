"""Actors: whoever chooses the actions of episodes that are evaluated, compared or collected."""
