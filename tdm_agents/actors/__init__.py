"""Actors: whoever chooses actions in episodes that are evaluated, compared or collected."""
