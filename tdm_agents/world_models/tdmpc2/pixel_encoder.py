"""The encoder of observations that hold images (2310.16828, appendix)."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import ModelSpec
from tdm_agents.spaces.images import Image, image_columns, images_of
from tdm_agents.world_models.tdmpc2.activations import sim_norm
from tdm_agents.world_models.tdmpc2.normed_layers import NormedLinear
from tdm_agents.world_models.tdmpc2.random_shift import shifted
from tdm_agents.world_models.tdmpc2.sizes import TDMPC2Config

CHANNELS = 32
KERNELS = ((7, 2), (5, 2), (3, 2), (3, 1))
"""Side and stride of each convolution."""
SMALLEST = 39
"""Pixels that an image needs in height and width: fewer leave nothing to the last convolution."""


class PixelEncoder(nn.Module):
    """Four convolutions per image, and SimNorm over what they say.

    With a single image of 64 x 64 pixels and a latent state of 512 scalars, that is all, as in the paper.
    Otherwise a linear layer with LayerNorm makes the latent state from what all images say, and from a layer
    over the other scalars of the observation where there are some.

    Args:
        spec: Of the model; its observations hold images.
        config: Sizes.
        generator: Of the weights.

    Raises:
        ValueError: If an image is too small.
    """

    def __init__(self, spec: ModelSpec, config: TDMPC2Config, *, generator: torch.Generator) -> None:
        super().__init__()
        self.group = config.group
        self.images = images_of(spec.observation_space)
        for image in self.images:
            refuse_small(image, spec.observation_space)
        self.convolutions = nn.ModuleList(convolutions(image.channels, generator) for image in self.images)
        rest = torch.from_numpy(~image_columns(spec.observation_space, spec.observation_dim)).nonzero()[:, 0]
        self.rest: Tensor
        self.register_buffer("rest", rest, persistent=False)
        features = sum(map(features_of, self.images))
        self.vector: NormedLinear | None = None
        self.last: NormedLinear | None = None
        if len(rest):
            self.vector = NormedLinear(len(rest), config.encoder_width, generator=generator)
            features += config.encoder_width
        if len(rest) or len(self.images) > 1 or features != config.latent:
            self.last = NormedLinear(features, config.latent, group=config.group, generator=generator)

    def forward(self, observation: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Latent states ``[..., z]`` of observations ``[..., n]``, bytes or floats from 0 to 255.

        Args:
            observation: The flat observations.
            generator: Of the random shift; None: images are not shifted.
        """
        lead = observation.shape[:-1]
        flat = observation.reshape(-1, observation.shape[-1])  # [R, n]
        dtype = next(self.parameters()).dtype
        said = []
        for image, layers in zip(self.images, self.convolutions, strict=True):
            pixels = shifted(as_images(flat, image), generator).to(dtype) / 255 - 0.5
            said.append(layers(pixels).flatten(1))
        if self.last is None:
            return sim_norm(said[0], self.group).view(*lead, -1)
        said = [F.relu(one) for one in said]
        if self.vector is not None:
            said.append(self.vector(flat[:, self.rest].to(dtype)))
        latent: Tensor = self.last(torch.cat(said, dim=-1))
        return latent.view(*lead, -1)


def as_images(flat: Tensor, image: Image) -> Tensor:
    """``[R, F, H, W, C]`` of flat observations ``[R, n]``."""
    pixels = flat[:, image.first : image.first + image.scalars].reshape(-1, *image.shape)
    order = [axis for axis in image.axes if axis is not None]
    pixels = pixels.permute(0, *(axis + 1 for axis in order))
    if image.axes[0] is None:
        pixels = pixels[:, None]
    return pixels if image.axes[3] is not None else pixels[..., None]


def convolutions(channels: int, generator: torch.Generator) -> nn.Sequential:
    """Four convolutions with ReLU between them, with PyTorch's usual initial weights from ``generator``."""
    layers: list[nn.Module] = []
    for i, (side, stride) in enumerate(KERNELS):
        inputs = CHANNELS if i else channels
        layer = nn.Conv2d(inputs, CHANNELS, side, stride, device="meta", dtype=torch.float32)
        bound = 1 / math.sqrt(inputs * side * side)
        for name in ("weight", "bias"):
            drawn = torch.empty(getattr(layer, name).shape, device="cpu", dtype=torch.float32)
            drawn.uniform_(-bound, bound, generator=generator)
            setattr(layer, name, nn.Parameter(drawn))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def features_of(image: Image) -> int:
    """Scalars that the convolutions make of an image."""
    return CHANNELS * math.prod(map(_side_after, (image.height, image.width)))


def _side_after(side: int) -> int:
    return list(itertools.accumulate(KERNELS, lambda s, k: (s - k[0]) // k[1] + 1, initial=side))[-1]


def refuse_small(image: Image, space: spaces.Space[Any]) -> None:
    """Refuse an image that is smaller than the convolutions need.

    Raises:
        ValueError: If it is.
    """
    if min(image.height, image.width) < SMALLEST:
        raise WrongValueError(
            f"observation_space {space} has images of {image.height} x {image.width} pixels; expected at "
            f"least {SMALLEST} x {SMALLEST}: enlarge them with gymnasium.wrappers.ResizeObservation(env, "
            "(64, 64)), or give bytes that are no image as numbers, with gymnasium.wrappers.DtypeObservation"
        )
