"""Agents on the Hugging Face hub: an agent's folder as a repository, under the name ``"hf://owner/name"``.

A repository holds what :meth:`TDMAgent.save` writes, a model card (``README.md``), the evaluation that the
card shows, and ``SHA256SUMS`` with a hash of each, in the format of ``sha256sum -c``. Everything is JSON,
text or safetensors: reading it runs none of it as code.

The package ``huggingface_hub`` does the transfers. It is optional (``pip install 'tdm-agents[hub]'``), keeps
downloads in its own cache, and reads ``HF_TOKEN``, ``HF_HOME`` and ``HF_ENDPOINT``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tdm_agents.errors import MissingPackageError, TDMError, UnknownNameError, WrongValueError, brief
from tdm_agents.storage import CheckpointError, write_bytes

SCHEME = "hf://"
SUMS_FILE = "SHA256SUMS"
# nothing else is uploaded or downloaded; parts of an agent, such as its value, have folders of their own
_FILES = ["*.json", "*.safetensors", "*/model.json", "*/weights.safetensors", "README.md", SUMS_FILE]
_NAME = re.compile(r"hf://(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^\s@]+))?")
_SUM = re.compile(r"(?P<sha256>[0-9a-f]{64})  (?P<file>(?:[\w-]+/)?[^/\\]+)")


class HubError(TDMError, RuntimeError):
    """The hub cannot be reached, or refuses."""


@dataclass(frozen=True, slots=True)
class HubName:
    """The name of an agent on the hub.

    Attributes:
        repository: ``"owner/name"``.
        revision: Branch, tag or commit; None = the newest commit of ``main``.
    """

    repository: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubName:
        """The name in ``"hf://owner/name"`` or ``"hf://owner/name@revision"``.

        Raises:
            ValueError: If it is neither.
        """
        found = _NAME.fullmatch(text)
        if found is None:
            raise WrongValueError(
                f"{text!r} is no name of an agent on the hub; expected hf://owner/name, or "
                "hf://owner/name@revision with a branch, tag or commit"
            )
        return cls(found["repository"], found["revision"])

    def __str__(self) -> str:
        return f"{SCHEME}{self.repository}" + (f"@{self.revision}" if self.revision else "")


def download(name: str) -> Path:
    """The folder of an agent of the hub, in the cache of ``huggingface_hub``; only what is new is fetched.

    Args:
        name: Its name, see :meth:`HubName.parse`.

    Raises:
        ValueError: If it is no name.
        MissingPackageError: If ``huggingface_hub`` is not installed.
        UnknownNameError: If there is no such repository or revision, or it is private and the token does not
            open it.
        HubError: If the hub cannot be reached and the cache has no copy.
        CheckpointError: If a file is not the one that was uploaded.
    """
    wanted = HubName.parse(name)
    hub = _huggingface_hub()
    with _refusals(wanted):
        folder = Path(
            hub.snapshot_download(wanted.repository, revision=wanted.revision, allow_patterns=_FILES)
        )
    check_sums(folder)
    return folder


def upload(
    folder: Path, repository: str, *, private: bool = False, message: str = "Upload an agent"
) -> HubName:
    """Upload an agent's folder, in one commit that replaces the repository's agent, and return its name.

    Args:
        folder: What :meth:`TDMAgent.save` wrote, with a model card.
        repository: ``"owner/name"``; made if it does not exist.
        private: Whether a repository that is made is private.
        message: Message of the commit.

    Returns:
        The name with the commit as its revision, which will always mean these files.

    Raises:
        ValueError: If ``repository`` is not ``"owner/name"``.
        MissingPackageError: If ``huggingface_hub`` is not installed.
        HubError: If the hub cannot be reached, or the token does not allow it.
    """
    wanted = HubName.parse(f"{SCHEME}{repository}")
    if wanted.revision is not None:
        raise WrongValueError(f"repository is {repository!r}; expected owner/name without a revision")
    hub = _huggingface_hub()
    write_sums(folder)
    with _refusals(wanted):
        api = hub.HfApi()
        api.create_repo(wanted.repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=wanted.repository,
            folder_path=folder,
            commit_message=message,
            allow_patterns=_FILES,
            delete_patterns=_FILES,  # such as the evaluation of the weights before these
        )
    return HubName(wanted.repository, commit.oid)


def write_sums(folder: Path) -> None:
    """Write ``SHA256SUMS`` of the files that are uploaded."""
    files = sorted({path for pattern in _FILES for path in folder.glob(pattern)} - {folder / SUMS_FILE})
    write_bytes(
        folder / SUMS_FILE,
        "".join(f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files).encode(),
    )


def check_sums(folder: Path) -> None:
    """Compare the files with ``SHA256SUMS``; a repository made by other means may have none.

    Raises:
        CheckpointError: If a file is missing or another one.
    """
    sums = folder / SUMS_FILE
    if not sums.is_file():
        return
    for line in sums.read_text(errors="replace").splitlines():
        found = _SUM.fullmatch(line)
        if found is None:
            raise CheckpointError(f"{sums} has the line {line[:80]!r}; expected a sha256, two spaces, a file")
        path = folder / found["file"]
        if not path.is_file() or _sha256(path) != found["sha256"]:
            raise CheckpointError(
                f"{path} is {'another file than was uploaded' if path.is_file() else 'missing'}; remove "
                f"{folder} and load the agent again, or ask its owner to upload it again"
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _huggingface_hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingPackageError(
            f"agents of the Hugging Face hub need huggingface_hub ({error}); pip install 'tdm-agents[hub]'"
        ) from error
    return huggingface_hub


@contextmanager
def _refusals(name: HubName) -> Iterator[None]:
    """Turn what the hub or the network objects to into the user's mistake."""
    from huggingface_hub import errors

    try:
        yield
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise UnknownNameError(
            f"{name} is not on the hub, or not for this token ({brief(error, 200)}); check the name, and "
            "`hf auth login` or HF_TOKEN for what is private"
        ) from error
    except errors.HFValidationError as error:
        raise WrongValueError(f"{name} is no name of a repository: {brief(error, 300)}") from error
    except (errors.HTTPError, OSError) as error:  # also of a cache that has no copy
        raise HubError(
            f"{name} cannot be reached or written ({type(error).__name__}: {brief(error, 300)}); check the "
            "network, HF_ENDPOINT, and whether HF_TOKEN may write"
        ) from error
