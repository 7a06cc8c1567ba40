"""Decoding: imagining steps token by token, with a history that all candidates share.

``decoder`` feeds and reads tokens. Strategies use it: ``sequential`` and ``together`` write the observation
of a step, ``imagine`` a transition, ``alive`` and ``captured`` whole rollouts, ``propose`` actions, ``draft``
single tokens. ``encode`` turns a history into a ``state``, whose keys and values are in a ``cache``.
"""
