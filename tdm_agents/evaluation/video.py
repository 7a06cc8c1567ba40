"""Videos of episodes without a screen: the episode is replayed and rendered in a process of its own.

A process chooses MuJoCo's OpenGL backend once, when it first imports MuJoCo, and a failed import stays
broken. So the process that plans never touches OpenGL: a child replays the recorded actions from the same
seed, and a video costs the episode itself no time.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v2 as imageio
import numpy as np
import numpy.typing as npt

from tdm_agents.env_checks import read_reward
from tdm_agents.environments import EnvRef, make_env, seconds_per_step
from tdm_agents.errors import TDMError, WrongValueError

REMEDY = (
    "`apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0` and then MUJOCO_GL=egl, "
    "or `apt-get install libosmesa6` and then MUJOCO_GL=osmesa"
)
FRAMES_PER_SECOND = 25.0
OFF = ("disable", "disabled", "off", "false", "0")
"""Values of ``MUJOCO_GL`` with which MuJoCo and dm_control import no OpenGL."""
_PROBE_SECONDS = 120.0


class VideoError(TDMError, RuntimeError):
    """An episode cannot be shown: rendering fails, or the environment does not repeat it."""


class NoRendererError(TDMError, RuntimeError):
    """Nothing on this machine renders; the message is a sentence that names the remedy."""


def find_renderer(env: EnvRef, environ: Mapping[str, str] | None = None) -> str:
    """The first value of ``MUJOCO_GL`` with which a child process renders a frame of ``env``.

    Args:
        env: The environment.
        environ: Environment variables; None = those of this process. If ``MUJOCO_GL`` is set, only that
            value is tried.

    Raises:
        NoRendererError: If no value works, ``MUJOCO_GL`` switches rendering off, or the environment renders
            no pictures.
    """
    environ = os.environ if environ is None else environ
    wanted = environ.get("MUJOCO_GL", "").strip().lower()
    if wanted in OFF:
        raise NoRendererError(
            f"MUJOCO_GL={wanted} switches rendering off; unset it, or install a renderer: {REMEDY}"
        )
    made = env.make()
    modes = made.metadata.get("render_modes") or ()
    made.close()
    if "rgb_array" not in modes:
        raise NoRendererError(
            f"{env} has no render mode 'rgb_array': its metadata[\"render_modes\"] are {list(modes)}; a "
            "video needs that mode, an argument render_mode, and render()"
        )
    errors = []
    for backend in [wanted] if wanted else _backends(environ):
        error = _child({"env": str(env)}, backend, environ, timeout=_PROBE_SECONDS)
        if error is None:
            return backend
        errors.append(f"{backend}: {error}")
    raise NoRendererError(f"nothing here renders ({'; '.join(errors)}); install a renderer: {REMEDY}")


def render_episode(
    path: Path,
    env: EnvRef,
    seed: int,
    actions: npt.NDArray[Any],
    *,
    score: float,
    backend: str,
    timeout: float = 600.0,
) -> None:
    """Replay an episode and write it as an H.264 video in real time, at most 25 frames per second.

    Args:
        path: The file to write, ending in ``.mp4``.
        env: An environment that says how long its step is.
        seed: Seed that ``env.reset`` was given.
        actions: ``[L, ...]``, in the environment's units.
        score: The episode's return, which the replay has to repeat.
        backend: A value of ``MUJOCO_GL`` from :func:`find_renderer`.
        timeout: Seconds after which to give up.

    Raises:
        VideoError: If the replay earns another return, or rendering fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    job = {
        "env": str(env),
        "seed": seed,
        "actions": actions.tolist(),
        "score": score,
        "path": str(path),
    }
    error = _child(job, backend, os.environ, timeout=timeout)
    if error is not None:
        raise VideoError(f"no video {path}: {error}")


def write_video(path: Path, frames: Sequence[npt.NDArray[np.uint8]], fps: float) -> None:
    """Write frames ``[H, W, 3]``, whose sides are even, as H.264; the file appears when it is whole.

    Raises:
        ValueError: If there are no frames.
    """
    if not frames:
        raise WrongValueError(f"no frames for {path}; expected at least one")
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        imageio.mimwrite(partial, list(frames), fps=fps, codec="libx264", quality=7, macro_block_size=2)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _backends(environ: Mapping[str, str]) -> list[str]:
    if platform.system() != "Linux":
        return ["glfw"]  # the only backend that MuJoCo has there
    return ["egl", "osmesa"] + (["glfw"] if environ.get("DISPLAY") else [])


def _child(job: Mapping[str, Any], backend: str, environ: Mapping[str, str], *, timeout: float) -> str | None:
    """Do a job in a process with this backend; None, or the last line of what went wrong."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tdm_agents.evaluation.video"],
            input=json.dumps(job),
            env={**environ, "MUJOCO_GL": backend},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {timeout:g} s"
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit status {done.returncode}"


def _work(job: Mapping[str, Any]) -> None:
    """The child's work: render one frame to see whether it can, or a whole episode."""
    known = make_env(job["env"])  # registers it too
    assert known.spec is not None
    env = gym.make(known.spec, render_mode="rgb_array")
    known.close()
    env.reset(seed=job.get("seed"))
    frames = [_frame(env)]
    if "actions" not in job:
        return
    step = seconds_per_step(env)
    every = max(1, round(1.0 / (FRAMES_PER_SECOND * step)))
    score = 0.0
    for i, action in enumerate(job["actions"], start=1):
        flat = np.asarray(action, env.action_space.dtype)
        _, reward, *_ = env.step(flat.reshape(env.action_space.shape or ()))
        score += read_reward(reward)
        if i % every == 0:
            frames.append(_frame(env))
    env.close()
    if not math.isclose(score, job["score"], rel_tol=1e-4, abs_tol=1e-6):
        raise VideoError(
            f"the replay earned {score:.3f}, the episode {job['score']:.3f}: the environment does not repeat "
            f"from seed {job['seed']}"
        )
    write_video(Path(job["path"]), frames, fps=1.0 / (step * every))


def _frame(env: gym.Env[Any, Any]) -> npt.NDArray[np.uint8]:
    frame = env.render()
    assert isinstance(frame, np.ndarray)
    return np.array(frame, np.uint8)  # a copy: renderers reuse their buffer


if __name__ == "__main__":
    _work(json.load(sys.stdin))
