"""Online training: a model that learns from what its own agent does, from nothing."""
