"""Gato's transformer over trajectory tokens: pre-norm blocks, GEGLU, rotary positions over steps.

Sources: Gato (2205.06175, appendix C): decoder blocks with GEGLU; RoPE (2104.09864), here over decision
steps, so that all tokens of a step share an angle and no index runs out; Fourier-feature initialisation of
the token table, so that neighbouring bins start as neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tdm_agents.errors import WrongValueError
from tdm_agents.world_models.transformer.attention import packed_attention, padded_attention, padded_mask
from tdm_agents.world_models.transformer.dropout import Dropout
from tdm_agents.world_models.transformer.operations import Rotation, added, gated, normed, rotate, rotated
from tdm_agents.world_models.transformer.packing import Packed


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Shape of the network.

    Attributes:
        layers: Number of blocks.
        width: Model width ``d``.
        heads: Number of attention heads; ``d / heads`` must be even.
        feedforward: Hidden width of the GEGLU.
        bins: Number of output bins.
        max_observation: Largest observation that has positions.
        max_action: Largest action that has positions.
        returns: Whether there is an output layer for returns.

    Raises:
        ValueError: If a size is below 1, or the width does not fit the heads.
    """

    layers: int
    width: int
    heads: int
    feedforward: int
    bins: int
    max_observation: int
    max_action: int
    returns: bool = False

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "feedforward", "bins", "max_observation", "max_action"):
            if getattr(self, name) < 1:
                raise WrongValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.width % (2 * self.heads):
            raise WrongValueError(f"width {self.width} is not a multiple of twice the heads ({self.heads})")

    @property
    def head_dim(self) -> int:
        """``d / heads``."""
        return self.width // self.heads


class Block(nn.Module):
    """One pre-norm block, in two halves, so that any attention can come between them."""

    def __init__(self, config: NetworkConfig, device: torch.device | str = "cpu") -> None:
        super().__init__()
        width = config.width
        # stated everywhere: what torch makes by default is the user's setting, and not ours
        made: dict[str, Any] = {"device": device, "dtype": torch.float32}
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(width, **made)
        self.qkv = nn.Linear(width, 3 * width, bias=False, **made)
        self.attention_out = nn.Linear(width, width, bias=False, **made)
        self.feedforward_norm = nn.LayerNorm(width, **made)
        self.feedforward_in = nn.Linear(width, 2 * config.feedforward, bias=False, **made)
        self.feedforward_out = nn.Linear(config.feedforward, width, bias=False, **made)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation,
        packed: Packed,
        mask: Tensor | None = None,
        kept: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """A block of a flat sequence ``[S, d]``; a call of the module, so that it can be sharded.

        Args:
            x: The sequence.
            rotation: Of each token.
            packed: What attention reads.
            mask: Its :func:`.attention.padded_mask`, where windows are padded.
            kept: Factors ``[S, d]`` of what attention and the GEGLU add, where there is dropout.
        """
        query, key, value = rotated(self.qkv(normed(x, self.attention_norm)), rotation, self.heads)
        if packed.padding is None:
            return self.finish(x, packed_attention(query, key, value, packed), kept)
        return self.finish(x, padded_attention(query, key, value, packed, mask), kept)

    def project(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Project ``[B, S, d]`` to rotated queries and keys, and values, each ``[B, heads, S, head_dim]``."""
        batch, length, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, length, 3 * self.heads, width // self.heads)
        rotated = rotate(qkv[:, :, : 2 * self.heads], rotation)  # [B, S, 2 heads, head_dim]
        query, key = rotated.transpose(1, 2).chunk(2, dim=1)
        return query, key, qkv[:, :, 2 * self.heads :].transpose(1, 2)

    def step_projection(self, rotation: Tensor) -> Tensor:
        """Weights that project tokens of one decision step to *rotated* queries and keys, and values.

        Args:
            rotation: ``[3 heads, head_dim, head_dim]``, from :meth:`TransformerNetwork.step_rotations`.

        Returns:
            Weights ``[3 heads, d, head_dim]``.
        """
        heads, head_dim = rotation.shape[:2]
        return torch.bmm(self.qkv.weight.view(heads, head_dim, -1).transpose(1, 2), rotation)

    def project_step(self, x: Tensor, projection: Tensor) -> Tensor:
        """Project new tokens ``[S, d]`` of a step to rotated queries and keys, and values.

        Args:
            x: The tokens of all rows.
            projection: The :meth:`step_projection` of the step.

        Returns:
            ``[3 heads, S, head_dim]``; heads come first, as in a decoder's cache.
        """
        return torch.bmm(self.attention_norm(x).expand(len(projection), -1, -1), projection)

    def finish(self, x: Tensor, attended: Tensor, kept: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """The block's output, from its input and the attended values, both ``[..., d]``.

        Args:
            x: The input.
            attended: The attended values.
            kept: As in :meth:`forward`.
        """
        first, second = (None, None) if kept is None else kept
        x = added(x, self.attention_out(attended), first)
        hidden = gated(self.feedforward_in(normed(x, self.feedforward_norm)))
        return added(x, self.feedforward_out(hidden), second)


class TransformerNetwork(nn.Module):
    """Token table, positions inside the step, blocks, and the output heads.

    Args:
        config: Its shape.
        device: Where its float32 weights are made; ``"meta"`` makes none.
    """

    def __init__(self, config: NetworkConfig, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.config = config
        made: dict[str, Any] = {"device": device, "dtype": torch.float32}
        self.token = nn.Embedding(config.bins + 2, config.width, **made)  # values, NONE, SEP
        positions = config.max_observation + 2 + config.max_action
        self.position = nn.Embedding(positions, config.width, **made)
        self.blocks = nn.ModuleList(Block(config, device) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, **made)
        self.head = nn.Linear(config.width, config.bins, bias=False, **made)
        self.alive = nn.Linear(config.width, 1, **made)
        self.returns = nn.Linear(config.width, config.bins, bias=False, **made) if config.returns else None
        if self.token.weight.device.type != "meta":
            self._initialise()

    def _initialise(self) -> None:
        config = self.config
        features = fourier_features(config.bins, config.width)
        with torch.no_grad():
            nn.init.normal_(self.token.weight, std=0.5)
            self.token.weight[: config.bins] = features
            self.head.weight.copy_(features * config.width**-0.5)
            nn.init.normal_(self.position.weight, std=0.5)
            nn.init.zeros_(self.alive.weight)
            nn.init.zeros_(self.alive.bias)
            if self.returns is not None:
                self.returns.weight.copy_(features * config.width**-0.5)
            residual = (2 * config.layers) ** -0.5
            for module in self.blocks:
                assert isinstance(module, Block)
                for linear, gain in (
                    (module.qkv, 1.0),
                    (module.attention_out, residual),
                    (module.feedforward_in, 1.0),
                    (module.feedforward_out, residual),
                ):
                    nn.init.normal_(linear.weight, std=gain * linear.in_features**-0.5)

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Embed tokens ``[..., S]`` at positions ``[S]`` of their steps as ``[..., S, d]``."""
        x: Tensor = self.token(tokens) + self.position(positions)
        return x

    def rotation(self, steps: Tensor) -> Rotation:
        """The cosines and sines of step numbers ``[S]`` (relative ones suffice), in the network's dtype."""
        half = self.config.head_dim // 2
        frequency = 10_000.0 ** (-torch.arange(half, device=steps.device, dtype=torch.float32) / half)
        angle = steps.float()[:, None] * frequency  # [S, head_dim / 2]
        dtype = self.token.weight.dtype
        return angle.cos().to(dtype), angle.sin().to(dtype)

    def step_rotations(self, steps: Tensor) -> Tensor:
        """:meth:`rotation` as matrices ``[S, 3 heads, head_dim, head_dim]``, for :meth:`Block.project_step`.

        All tokens that are decoded together belong to one decision step, so their rotation can be part of the
        weights. Queries are also scaled by ``head_dim ** -0.5``; values stay as they are.
        """
        cosine, sine = (x.diag_embed() for x in self.rotation(steps))
        key = torch.cat([torch.cat([cosine, sine], dim=-1), torch.cat([-sine, cosine], dim=-1)], dim=-2)
        value = torch.eye(self.config.head_dim, dtype=key.dtype, device=key.device).expand_as(key)
        matrices = torch.stack([key * self.config.head_dim**-0.5, key, value], dim=1)
        return matrices.repeat_interleave(self.config.heads, dim=1)

    def forward(self, packed: Packed, dropout: Dropout | None = None) -> Tensor:
        """The hidden states of whole decision steps, without a cache.

        Args:
            packed: ``S`` tokens of windows from one or more environments.
            dropout: What is dropped of the embeddings, and of what the blocks add to them.

        Returns:
            ``[S, d]``, normalised; :meth:`logits` reads it.
        """
        x = self.embed(packed.tokens, packed.positions)  # [S, d]
        longest = max(band.steps for band in packed.bands)
        cosine, sine = self.rotation(torch.arange(longest, device=x.device))
        rotation = cosine[packed.steps], sine[packed.steps]
        mask = None if packed.padding is None else padded_mask(packed)
        masks = None if dropout is None else dropout.masks(x)
        if masks is not None:
            x = x * next(masks)
        for block in self.blocks:
            x = block(x, rotation, packed, mask, None if masks is None else (next(masks), next(masks)))
        return normed(x, self.norm)

    def logits(self, hidden: Tensor) -> Tensor:
        """``[..., d]`` to ``[..., bins]`` float32."""
        scores: Tensor = self.head(hidden)
        return scores.float()


def fourier_features(bins: int, width: int) -> Tensor:
    """Damped Fourier features of the bin index, ``[bins, width]``, rows of unit mean square.

    Column pair ``k`` is ``cos, sin`` of ``pi k x`` for ``x`` in [0, 1], with amplitude ``1 / (1 + k / 8)``:
    low frequencies dominate, so that neighbouring bins start close to each other and can still be learned.
    """
    x = (torch.arange(bins, dtype=torch.float32, device="cpu") + 0.5) / bins
    k = torch.arange(1, math.ceil(width / 2) + 1, dtype=torch.float32, device="cpu")
    phase = math.pi * x[:, None] * k  # [bins, width / 2]
    features = torch.cat([phase.cos(), phase.sin()], dim=1)[:, :width]
    features = features / (1.0 + torch.cat([k, k])[:width] / 8.0)
    return features / features.square().mean(dim=1, keepdim=True).sqrt()
