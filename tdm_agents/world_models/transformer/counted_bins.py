"""Bins that hold equally many of the data, so that they are narrow where the data are dense."""

from __future__ import annotations

import torch
from torch import Tensor

from tdm_agents.world_models.transformer.bins import MIN_WIDTH_ULPS, Bins


class CountedBins(Bins):
    """Bins between given edges; a bin's number is its middle.

    They are those of the Trajectory Transformer (Janner et al. 2021, arXiv:2106.02039, section 2.1), which
    calls them quantile bins. Values outside of all edges are in the first or the last bin.

    Args:
        columns: Number of columns.
        bins: Number of bins.
        device: Where the edges are.
    """

    edges: Tensor

    def __init__(self, columns: int, bins: int, *, device: torch.device | str = "cpu") -> None:
        super().__init__(columns, bins, scale=None, fixed=False, device=device)
        unknown = torch.full((columns, bins + 1), torch.nan, dtype=torch.float32, device=device)
        self.register_buffer("edges", unknown)

    def set_edges(self, edges: Tensor) -> None:
        """Take edges ``[columns, bins + 1]``, in order, pushed apart where float32 could not tell bins apart.

        Where many data are equal, their bin is the first of those that would be empty.
        """
        edges = edges.double()
        # of each edge, and not of the largest: one outlier would take the others' resolution
        least = (MIN_WIDTH_ULPS * torch.finfo(torch.float32).eps * edges.abs()).clamp(min=1e-9)
        spread = least.cumsum(dim=1)
        edges = (edges - spread).cummax(dim=1).values + spread
        self.set_range(edges[:, 0], edges[:, -1])
        self.edges.copy_(edges)

    def encode(self, value: Tensor, column: int | None = None) -> Tensor:
        """Bin indices, int64, in ``value``'s shape: ``[..., columns]``, or any shape for one ``column``."""
        self._range(value, column)  # refuses what has no edges or another shape
        inner = self.edges[:, 1:-1].contiguous()
        if column is not None:
            return torch.searchsorted(inner[column], value.float().contiguous(), right=True)
        by_column = value.float().movedim(-1, 0).contiguous()  # [columns, ...]
        found = torch.searchsorted(inner, by_column.view(len(inner), -1), right=True)
        return found.view(by_column.shape).movedim(0, -1).contiguous()

    def decode(self, index: Tensor, column: int | None = None) -> Tensor:
        """The middles of bins, float32, in the shape of ``index``."""
        self._range(index, column)
        middles = 0.5 * (self.edges[:, :-1] + self.edges[:, 1:])  # [columns, bins]
        if column is not None:
            return middles[column][index]
        return middles[torch.arange(len(middles), device=index.device), index]
