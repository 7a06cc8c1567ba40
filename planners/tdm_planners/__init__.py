"""Planners, one per file, over one shared loop (``shooting.py``) and one source of noise (``noise.py``)."""
