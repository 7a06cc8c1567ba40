"""Probes that ``tdm doctor`` runs in child processes: ``python -m tdm_agents.cli.probes NAME`` prints JSON.

A broken installation of a package with native code may end the process that imports it.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

CHECKPOINT = "cartpole-swingup"


def torch() -> dict[str, Any]:
    """Devices and threads."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "gpus": gpus if torch.cuda.is_available() else [],
        "threads": torch.get_num_threads(),
    }


def planning() -> dict[str, Any]:
    """Time of a decision of the shipped checkpoint, after one that may compile; it needs no environment."""
    from tdm_agents import TDMAgent

    agent = TDMAgent.load(CHECKPOINT, horizon=2, num_samples=4, iterations=1)
    spec = agent.model.spec
    spec.observation_space.seed(0)
    observation = spec.observation_space.sample()
    agent.reset(seed=0)
    inside = spec.action_space.contains(agent.act(observation))
    agent.reset(seed=0)
    began = time.perf_counter()
    agent.act(observation)
    return {"action_in_space": inside, "milliseconds": 1e3 * (time.perf_counter() - began)}


def ffmpeg() -> dict[str, Any]:
    """The encoder that writes videos."""
    import imageio_ffmpeg  # type: ignore[import-untyped]

    return {"version": imageio_ffmpeg.get_ffmpeg_version(), "path": imageio_ffmpeg.get_ffmpeg_exe()}


def plugins() -> dict[str, Any]:
    """Every planner and world model by name, with its error or null."""
    from tdm_agents import registry

    found: dict[str, str | None] = {}
    for group in (registry.PLANNERS, registry.WORLD_MODELS):
        for name in registry.names(group):
            try:
                registry.load(group, name)
                found[f"{group}: {name}"] = None
            except registry.PluginError as error:
                found[f"{group}: {name}"] = str(error)
    return found


def renderer() -> dict[str, Any]:
    """The first OpenGL backend with which MuJoCo draws a frame, or why none does and what helps."""
    from tdm_agents.environments import EnvRef
    from tdm_agents.evaluation.video import NoRendererError, find_renderer
    from tdm_envs.without_dm_control import is_installed

    drawn = "dm_control/cartpole-swingup-v0" if is_installed() else "tdm/WalkerLine-v0"
    try:
        return {"backend": find_renderer(EnvRef(drawn))}
    except NoRendererError as error:
        return {"backend": None, "why": str(error)}


PROBES = {probe.__name__: probe for probe in (torch, planning, ffmpeg, plugins, renderer)}

if __name__ == "__main__":
    print(json.dumps(PROBES[sys.argv[1]]()))
