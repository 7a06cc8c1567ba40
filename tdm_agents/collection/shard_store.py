"""Episodes on their way between machines that share no folder: files at a URL of any fsspec file system.

Workers put each finished episode there, and the process that collects fetches them. A file that can be seen
there is whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from tdm_agents.data.readable import DataError
from tdm_agents.errors import MissingPackageError, WrongValueError
from tdm_agents.storage import write_bytes


@dataclass(frozen=True, slots=True)
class ShardStore:
    """A folder of files at a URL.

    Attributes:
        url: For example ``s3://bucket/walkers`` or ``file:///shared/walkers``.
    """

    url: str

    def below(self, name: str) -> ShardStore:
        """The store in a folder of this one."""
        return ShardStore(f"{self.url.rstrip('/')}/{name}") if name else self

    def put(self, file: Path) -> None:
        """Copy a file there, under its name, at once or not at all.

        Raises:
            DataError: If it cannot be written.
        """
        files, folder = self._opened()
        try:
            files.makedirs(folder, exist_ok=True)
            # the file appears when the transaction ends
            with files.transaction, files.open(f"{folder}/{file.name}", "wb") as target:
                target.write(file.read_bytes())
        except OSError as error:
            raise DataError(
                f"{self.url}/{file.name} cannot be written ({error}); finished episodes are kept: run the "
                "same command again when it can"
            ) from error

    def names(self) -> set[str]:
        """Names of the files that are there."""
        files, folder = self._opened()
        files.invalidate_cache()
        if not files.exists(folder):
            return set()
        return {path.rpartition("/")[2] for path in files.ls(folder, detail=False)}

    def fetch(self, name: str, to: Path) -> None:
        """Copy a file of that name to ``to``, atomically.

        Raises:
            DataError: If it cannot be read.
        """
        files, folder = self._opened()
        try:
            write_bytes(to, files.cat_file(f"{folder}/{name}"))
        except OSError as error:
            raise DataError(
                f"{self.url}/{name} cannot be fetched ({error}); run the same command again"
            ) from error

    def remove(self, names: set[str]) -> None:
        """Remove files, those of these names that are there; others may be somebody else's."""
        files, folder = self._opened()
        if there := sorted(names & self.names()):
            files.rm([f"{folder}/{name}" for name in there])

    def _opened(self) -> tuple[Any, str]:
        """The file system, and the folder on it.

        Raises:
            ImportError: If the package of this kind of URL is not installed.
            ValueError: If there is no such kind of URL.
        """
        try:
            files, folder = fsspec.url_to_fs(self.url)
        except ImportError as error:
            raise MissingPackageError(f"{self.url}: {error}, on all machines") from error
        except ValueError as error:
            raise WrongValueError(f"{self.url!r} is no URL of files: {error}") from error
        return files, folder
