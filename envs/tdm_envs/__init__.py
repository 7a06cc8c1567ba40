"""Environments and their reward functions; importing this package registers what it can with Gymnasium."""
