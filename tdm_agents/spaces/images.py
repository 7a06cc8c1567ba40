"""Images among observations: which leaves of a space are some, and where they lie in the flat vector.

An image is a ``Box`` of bytes with two to four axes: ``[H, W]``, with channels first or last, and with
stacked frames in front. The axis of the channels is the shorter one of the first and the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces


@dataclass(frozen=True, slots=True)
class Image:
    """Where an image lies in the flat observation.

    Attributes:
        first: Its first scalar.
        shape: Its shape in the space.
        axes: The axes of frames, height, width and channels; None where there is none.
    """

    first: int
    shape: tuple[int, ...]
    axes: tuple[int | None, int, int, int | None]

    @property
    def scalars(self) -> int:
        """Number of scalars."""
        return int(np.prod(self.shape))

    @property
    def channels(self) -> int:
        """Channels of all frames together."""
        frames, _, _, colours = self.axes
        return (1 if frames is None else self.shape[frames]) * (1 if colours is None else self.shape[colours])

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return self.shape[self.axes[1]]

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return self.shape[self.axes[2]]


def is_image(space: spaces.Space[Any]) -> bool:
    """Whether a space holds images as models read them."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and 2 <= len(space.shape) <= 4


def looks_like_images(space: spaces.Box) -> bool:
    """Whether a space holds pixels: rows of bytes, or channels first or last and sides of at least 16."""
    if space.dtype == np.uint8:
        return len(space.shape) >= 2
    channels, shape = (1, 3, 4), space.shape
    if len(shape) != 3 or not (shape[0] in channels or shape[2] in channels):
        return False
    sides = shape[1:] if shape[0] in channels else shape[:2]
    return min(sides) >= 16


def images_of(space: spaces.Space[Any]) -> tuple[Image, ...]:
    """The images of a space, in the order of the flat vector."""
    found: list[Image] = []
    _collect(space, 0, found)
    return tuple(found)


def image_columns(space: spaces.Space[Any], scalars: int) -> npt.NDArray[np.bool_]:
    """``[n]``, True for the scalars of images."""
    columns = np.zeros(scalars, bool)
    for image in images_of(space):
        columns[image.first : image.first + image.scalars] = True
    return columns


def _collect(space: spaces.Space[Any], first: int, found: list[Image]) -> int:
    """Add the images of a space whose scalars begin at ``first``; returns where they end."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        for part in parts:
            first = _collect(part, first, found)
        return first
    if is_image(space):
        shape = tuple(space.shape or ())
        found.append(Image(first, shape, _axes(shape)))
    return first + int(spaces.flatdim(space))


def _axes(shape: tuple[int, ...]) -> tuple[int | None, int, int, int | None]:
    if len(shape) == 2:
        return None, 0, 1, None
    frames = 0 if len(shape) == 4 else None
    one, two, three = range(len(shape) - 3, len(shape))
    if shape[three] <= shape[one]:
        return frames, one, two, three
    return frames, two, three, one
