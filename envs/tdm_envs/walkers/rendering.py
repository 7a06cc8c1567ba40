"""Frames and windows of a MuJoCo model, opened when they are first needed."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import numpy.typing as npt

from tdm_envs.mistakes import EnvsError, EnvsValueError
from tdm_envs.walkers.families import checked_int

_FRAMES_REMEDY = (
    "set MUJOCO_GL=egl or MUJOCO_GL=osmesa before mujoco is imported, which needs OpenGL's libraries but no "
    "screen"
)

_CLOSING_SECONDS = 5.0
"""Longest wait for a window to close, in seconds."""


class CannotRenderError(EnvsError, RuntimeError):
    """No OpenGL to draw with, or no screen to draw on; the message names the remedy."""


class FrameRenderer:
    """A renderer of RGB frames from a camera of the model.

    It needs OpenGL: without a screen, set ``MUJOCO_GL=egl`` or ``osmesa`` before mujoco is imported.

    Args:
        model: The model.
        camera: Name of a camera of the model.
        width: Width in pixels.
        height: Height in pixels.

    Raises:
        CannotRenderError: If ``MUJOCO_GL`` switched OpenGL off, or chose a version that needs a screen.
    """

    def __init__(self, model: Any, camera: str, width: int, height: int) -> None:
        _refuse_without_opengl()
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, height)
        self._renderer = mujoco.Renderer(model, height, width)
        self._camera = camera

    def frame(self, data: Any) -> npt.NDArray[np.uint8]:
        """A frame ``[height, width, 3]``, as a copy."""
        self._renderer.update_scene(data, camera=self._camera)
        frame: npt.NDArray[np.uint8] = self._renderer.render().copy()
        return frame

    def close(self) -> None:
        """Free the OpenGL context."""
        # MuJoCo frees textures in the current context, which may be that of another renderer
        self._renderer.render()
        self._renderer.close()


class Window:
    """MuJoCo's viewer of live data, at real time or slower.

    Args:
        model: The model.
        data: Its data, drawn at every :meth:`show`.
        camera: Name of a camera of the model.
        fps: Frames per second.

    Raises:
        CannotRenderError: If no window can be opened.
    """

    def __init__(self, model: Any, data: Any, camera: str, fps: int) -> None:
        if _no_screen():
            raise CannotRenderError(
                f"render_mode='human' opens a window, which fails here: {_displays()}. Start Python where "
                "there is a screen, or take render_mode='rgb_array'"
            )
        import mujoco.viewer  # needs a screen, and opens libraries that need one

        others = set(threading.enumerate())
        self._viewer = mujoco.viewer.launch_passive(model, data, show_left_ui=False, show_right_ui=False)
        self._threads = set(threading.enumerate()) - others
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
        """Close the window, and wait until it has gone, so that Python may end or open another."""
        self._viewer.close()
        for thread in self._threads:
            thread.join(timeout=_CLOSING_SECONDS)


class Screen:
    """The target of an environment's ``render()``, opened when it is first needed.

    Args:
        mode: None, ``"rgb_array"`` or ``"human"``.
        width: Width of a frame, in pixels.
        height: Height of a frame, in pixels.

    Raises:
        ValueError: If the mode is none of these, or a frame has no pixels.
        TypeError: If ``width`` or ``height`` is not an integer.
    """

    def __init__(self, mode: str | None, width: int, height: int) -> None:
        if mode not in (None, "human", "rgb_array"):
            raise EnvsValueError(f"render_mode is {mode!r}; expected None, 'human' or 'rgb_array'")
        self._mode = mode
        self._size = checked_int("width", width, 1), checked_int("height", height, 1)
        self._open: FrameRenderer | Window | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The state of a copy: all but an open renderer or window, which draws the original."""
        return {**vars(self), "_open": None}

    def draw(self, model: Any, data: Any, camera: str, fps: int) -> npt.NDArray[np.uint8] | None:
        """A frame ``[height, width, 3]``; None for ``"human"``, where the window shows it.

        Args:
            model: The model, which stays the same until :meth:`close`.
            data: Its data, which also stay the same.
            camera: Name of a camera of the model.
            fps: Frames per second of the window.

        Raises:
            CannotRenderError: If there is no OpenGL, or no screen for the window.
        """
        if self._mode is None:
            gym.logger.warn("render() does nothing without a render_mode; pass one to gym.make")
            return None
        if self._open is None:
            if self._mode == "human":
                self._open = Window(model, data, camera, fps)
            else:
                self._open = FrameRenderer(model, camera, *self._size)
        if isinstance(self._open, Window):
            self._open.show()
            return None
        return self._open.frame(data)

    def close(self) -> None:
        """Free what is open; the next :meth:`draw` opens it again."""
        if self._open is not None:
            self._open.close()
            self._open = None


def _refuse_without_opengl() -> None:
    backend = getattr(mujoco, "GLContext", None)  # chosen at import; missing where OpenGL is switched off
    now = f"(MUJOCO_GL is {os.environ.get('MUJOCO_GL', '')!r} now)"
    if backend is None:
        raise CannotRenderError(f"OpenGL was switched off when mujoco was imported {now}; {_FRAMES_REMEDY}")
    if backend.__module__ == "mujoco.glfw" and _no_screen():
        raise CannotRenderError(
            f"mujoco was imported so that it draws on a screen {now}, and {_displays()}; {_FRAMES_REMEDY}"
        )


def _no_screen() -> bool:
    """Whether GLFW, which opens windows, fails; if it did in MuJoCo's viewer, Python would end.

    This runs in another process, so that the viewer is still the first to start GLFW in this one.
    """
    if platform.system() != "Linux":
        return False  # there always is a screen, or MuJoCo says what is missing
    asked = [sys.executable, "-c", "import glfw, sys; sys.exit(not glfw.init())"]
    return subprocess.run(asked, capture_output=True, check=False).returncode != 0


def _displays() -> str:
    found = [(name, os.environ.get(name)) for name in ("DISPLAY", "WAYLAND_DISPLAY")]
    if not any(value for _, value in found):
        return "neither DISPLAY nor WAYLAND_DISPLAY is set"
    return " and ".join(f"{name} is {value!r}, which cannot be opened" for name, value in found if value)
