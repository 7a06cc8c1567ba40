"""The guard around Minari and HDF5: what they raise at damaged files is told with the file's name.

HDF5 names no file, Minari asserts, and both believe the sizes that a file claims. Nothing of ours runs inside
the guard but what reads a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
from minari.dataset.minari_storage import METADATA_FILE_NAME

from tdm_agents.errors import TDMError
from tdm_agents.json_text import check_fields, load_json

MAX_RATIO = 1_100
"""Bytes of an array per byte of its file: deflate packs up to 1,032 into one."""
_SLACK = 2**20
REPAIR = "leave it out with `tdm data repair FOLDER --out NEW`, or collect the data again"
"""The remedy for an episode that cannot be used."""


class DataError(TDMError, RuntimeError):
    """A data set that is missing, malformed or does not fit what is asked of it."""


@contextmanager
def readable(path: Path, what: str = "") -> Iterator[None]:
    """Tell whatever a library raises inside as damage of the data set in ``path``.

    Args:
        path: The data set, for the message.
        what: The part of it that is read.

    Raises:
        DataError: Instead of any exception that is no mistake yet.
    """
    name = f"{what} of {path}" if what else str(path)
    try:
        yield
    except DataError:
        raise
    except TDMError as error:
        raise DataError(f"{name} cannot be read: {error}{f'; {REPAIR}' if what else ''}") from error
    except Exception as error:
        said = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        remedy = REPAIR if what else "copy, download or collect it again"
        raise DataError(
            f"{name} cannot be read ({' '.join(said.split())[:300]}): a file in it is cut off or damaged; "
            f"{remedy}"
        ) from error


def read_metadata(path: Path) -> dict[str, Any]:
    """What ``metadata.json`` of a data set says.

    Raises:
        DataError: If it cannot be read, or is not what Minari writes.
    """
    with readable(path):
        file = path / METADATA_FILE_NAME
        raw = check_fields(
            load_json(file), str(file), {"total_episodes": int, "total_steps": int, "data_format": str}
        )
        if min(raw["total_episodes"], raw["total_steps"]) < 0:
            raise DataError(f"{file} counts fewer than 0 episodes or steps; copy or collect it again")
        return raw


def check_sizes(path: Path, episodes: Iterable[int]) -> None:
    """Refuse an HDF5 file whose arrays claim more than it can hold, before any of them is read.

    Args:
        path: The data set; one of another format has nothing to check.
        episodes: Whose arrays are looked at.

    Raises:
        DataError: If the file cannot be opened, or an array in it claims too much.
    """
    file = path / "main_data.hdf5"
    if not file.is_file():
        return
    with readable(path):
        limit = MAX_RATIO * file.stat().st_size + _SLACK

        def check(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.nbytes > limit:
                raise DataError(
                    f"{file} claims that {name} has {item.nbytes:,} bytes, more than the file can hold; it "
                    "is damaged: copy, download or collect it again"
                )

        with h5py.File(file, "r") as opened:
            for episode in episodes:
                opened[f"episode_{episode}"].visititems(check)
