"""Minari's HDF5 files made small: Minari itself writes them uncompressed."""

from __future__ import annotations

from pathlib import Path

import h5py

LEVEL = 4
"""Of gzip: higher ones take longer and save next to nothing on noisy floats."""


def compress_hdf5(path: Path) -> None:
    """Replace an HDF5 file by one with the same content, compressed; one array is in memory at a time.

    Each array is one chunk, since episodes are read whole, and bytes are shuffled: the exponents of
    neighbouring floats are alike, their last digits are not. ``libver="latest"`` because its headers are
    smaller, which counts for many short episodes (HDF5 1.10 and later reads it).
    """
    smaller = path.with_name(f".{path.name}.partial")
    with h5py.File(path) as source, h5py.File(smaller, "w", libver="latest", track_order=True) as target:
        _copy(source, target)
    smaller.replace(path)


def _copy(source: h5py.Group, target: h5py.Group) -> None:
    target.attrs.update(source.attrs)
    for name, item in source.items():
        if isinstance(item, h5py.Group):
            _copy(item, target.create_group(name))
        elif item.size:
            target.create_dataset(
                name,
                data=item[()],
                chunks=item.shape,
                shuffle=True,
                compression="gzip",
                compression_opts=LEVEL,
            )
        else:
            source.copy(item, target, name)  # an empty array has no chunks
