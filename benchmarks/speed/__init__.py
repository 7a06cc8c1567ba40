"""Time and memory of planning decisions: what they must cost, and what they cost."""
