"""Frames and windows of a MuJoCo model, built when the first is asked for."""

from __future__ import annotations

import time
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt


class FrameRenderer:
    """RGB frames from a camera of the model.

    Needs an OpenGL: without a screen set ``MUJOCO_GL=egl`` or ``osmesa`` before mujoco is imported.

    Args:
        model: Whose data will be drawn.
        camera: Name of a camera of the model.
        width: Pixels.
        height: Pixels.
    """

    def __init__(self, model: Any, camera: str, width: int, height: int) -> None:
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, height)
        self._renderer = mujoco.Renderer(model, height, width)
        self._camera = camera

    def frame(self, data: Any) -> npt.NDArray[np.uint8]:
        """``[height, width, 3]``, a copy."""
        self._renderer.update_scene(data, camera=self._camera)
        frame: npt.NDArray[np.uint8] = self._renderer.render().copy()
        return frame

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()


class Window:
    """MuJoCo's viewer on the live data, in real time at most.

    Args:
        model: The model.
        data: Its data, drawn at every :meth:`show`.
        camera: Name of a camera of the model.
        fps: Frames a second.
    """

    def __init__(self, model: Any, data: Any, camera: str, fps: int) -> None:
        import mujoco.viewer  # needs a screen, and opens libraries that need one

        self._viewer = mujoco.viewer.launch_passive(model, data, show_left_ui=False, show_right_ui=False)
        self._viewer.cam.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._viewer.cam.fixedcamid = model.camera(camera).id
        self._period = 1.0 / fps
        self._due = time.monotonic()

    def show(self) -> None:
        """Draw, and wait until it is time for the next frame."""
        self._viewer.sync()
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._due = time.monotonic() + self._period

    def close(self) -> None:
        """Close the window."""
        self._viewer.close()
