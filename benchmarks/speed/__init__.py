"""Time and memory of planning decisions: what they must cost, and what they do cost."""
