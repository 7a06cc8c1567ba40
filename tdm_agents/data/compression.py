"""Compression of Minari's HDF5 files, which Minari itself writes uncompressed."""

from __future__ import annotations

from pathlib import Path

import h5py

LEVEL = 4
"""Level of gzip: higher ones take longer and save next to nothing on noisy floats."""


GROUPS_AT_ONCE = 256
"""Groups copied before the file is reopened: HDF5 remembers every group it has touched until then."""


def compress_hdf5(path: Path) -> None:
    """Replace an HDF5 file of groups (episodes) by one with the same content, compressed.

    Each array is one chunk, since episodes are read whole. Bytes are shuffled, because the exponents of
    neighbouring floats are alike and their last digits are not. ``libver="latest"`` has smaller headers,
    which matters for many short episodes (HDF5 1.10 and later reads it). Memory does not grow with the
    number of groups.
    """
    smaller = path.with_name(f".{path.name}.partial")
    with h5py.File(path) as source, h5py.File(smaller, "w", libver="latest", track_order=True) as target:
        target.attrs.update(source.attrs)
        names = list(source)
    for first in range(0, len(names), GROUPS_AT_ONCE):
        with h5py.File(path) as source, h5py.File(smaller, "a", libver="latest") as target:
            for name in names[first : first + GROUPS_AT_ONCE]:
                _copy(source[name], target.create_group(name))
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
