"""Recordings of a scene: one self-contained HTML file that plays without a network."""

from __future__ import annotations

import time
from pathlib import Path

import viser

from tdm_agents.storage import make_folder, write_bytes


class SceneRecorder:
    """Records what is drawn in a server's scene from now on.

    Args:
        server: The server.
    """

    def __init__(self, server: viser.ViserServer) -> None:
        self._serializer = server.get_scene_serializer()
        self._last: float | None = None

    def frame(self, seconds: float | None = None) -> None:
        """What was drawn since the last frame is shown for so many seconds; None: for as long as it was."""
        now = time.monotonic()
        passed = 0.0 if self._last is None else now - self._last
        self._last = now
        self._serializer.insert_sleep(passed if seconds is None else seconds)

    def write(self, path: Path) -> int:
        """End the recording and write it; returns its size in bytes.

        Raises:
            OSError: If it cannot be written.
        """
        data = self._serializer.as_html().encode()
        make_folder(path.parent)
        write_bytes(path, data)
        return len(data)
