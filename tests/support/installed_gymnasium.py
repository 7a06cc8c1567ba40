"""What the installed Gymnasium has: the oldest one that is allowed lacks some of it."""

import inspect

from gymnasium import spaces

TYPED_DISCRETE = "dtype" in inspect.signature(spaces.Discrete).parameters
"""Whether a ``Discrete`` may be of another type than int64."""
