"""World models: the dynamics that planners imagine with."""
