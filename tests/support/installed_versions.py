"""What the installed libraries have: the oldest ones that are allowed lack some of it."""

import inspect

import minari
from gymnasium import spaces
from packaging.version import Version

TYPED_DISCRETE = "dtype" in inspect.signature(spaces.Discrete).parameters
"""Whether a ``Discrete`` of Gymnasium may be of another type than int64."""
STORES_BYTES = Version(minari.__version__) >= Version("0.5.4")
"""Whether Minari stores a few uint8 as they are; older ones take them for an image, and lose some of it."""
