"""Planners: one file each, over one shared loop (``shooting.py``) and one source of noise (``noise.py``)."""
