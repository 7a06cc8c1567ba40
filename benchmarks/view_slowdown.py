"""How much slower does an agent plan while somebody watches it in the browser?

Two processes let the same agent play, in turns of a few environment steps each: plainly, as ``tdm play``
does, and as ``tdm view`` plays it, with traces, snapshots and a page that one viewer looks at.
The viewer takes everything that a browser would be sent, over a websocket, and draws nothing: a browser
usually has a machine or a graphics card of its own. Processor time is that of the process that plans; the
wall clock also counts what else the machine does, so its ratio is of one run in turns.

    python benchmarks/view_slowdown.py
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import threading
import time
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import tyro

from keep import result
from tdm_agents.actors.agents import AgentFactory
from tdm_agents.actors.enter import enter
from tdm_agents.actors.entries import parse_entry
from tdm_agents.agent import TDMAgent
from tdm_agents.environments import EnvRef
from tdm_agents.view.guarded_server import GuardedServer, PageGuard
from tdm_agents.view.live_episode import Watched
from tdm_agents.view.live_page import LivePage
from tdm_agents.view.planning_process import PlanningProcess


@dataclass(frozen=True)
class Body:
    """An environment, its player, and the environment steps of a turn, which lasts seconds."""

    env: str
    entry: str
    steps: int


BODIES = (
    Body("tdm/WalkerTree-v0 dof=12 body=3", "expert", 270),
    Body("HalfCheetah-v5", "simulator planner=mppi horizon=12 num_samples=16 iterations=2", 120),
    Body("dm_control/cartpole-swingup-v0", "cartpole-swingup", 32),
)


@dataclass(frozen=True)
class Settings:
    """Turns and files."""

    out: Path = Path("benchmarks/results/view_slowdown.json")
    """Where to write the result."""
    turns: int = 7
    """Turns of each kind."""
    warmup: int = 1
    """Turns before them that do not count."""
    fps: float = 30.0
    """Pictures per second, at most."""


def play_plainly(pipe: Connection, env: str, entry: str) -> None:
    """Play as many steps as the pipe asks for, of an episode with seed 0."""
    torch.set_num_threads(1)  # as the view does
    ref = EnvRef.parse(env)
    made = ref.make()
    contestant = enter(parse_entry(entry), ref).contestant
    observation, _ = made.reset(seed=0)
    agent = contestant([made]) if isinstance(contestant, AgentFactory) else contestant
    assert isinstance(agent, TDMAgent)
    agent.generator.manual_seed(0)
    agent.reset()
    reward: float | None = None
    pipe.send(True)
    while (steps := pipe.recv()) is not None:
        for _ in range(steps):
            action = agent.act(observation, reward=reward)
            observation, given, terminated, truncated, _ = made.step(action)
            reward = float(given)
            if terminated or truncated:
                observation, reward = made.reset()[0], None
                agent.reset()
        pipe.send(True)


def look_on(port: int) -> None:
    """A viewer: connect, and read whatever is sent, without drawing it."""
    import viser
    from websockets.sync.client import connect
    from websockets.typing import Subprotocol

    protocol = Subprotocol(f"viser-v{viser.__version__}")
    with connect(f"ws://127.0.0.1:{port}", subprotocols=[protocol], max_size=None) as socket:
        for _ in socket:
            pass


def processor_seconds(pid: int) -> float:
    """Processor time that a process has taken so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(body: Body, settings: Settings) -> dict[str, Any]:
    """One body: seconds of each turn, and their ratios."""
    context = multiprocessing.get_context("spawn")
    pipe, other = context.Pipe()
    plain = context.Process(target=play_plainly, args=(other, body.env, body.entry), daemon=True)
    plain.start()
    watched = Watched(EnvRef.parse(body.env), (body.entry,))
    process = PlanningProcess(watched, fps=settings.fps)
    process.send("pause")
    process.send("reset")  # what was played while it started does not count
    process.send("speed", times=0.0)
    server = GuardedServer("127.0.0.1", 0, PageGuard("127.0.0.1", None), "benchmark")
    page = LivePage(server, process, (body.entry,), Path("runs/view_slowdown"))
    threading.Thread(target=page.run, daemon=True).start()
    viewer = context.Process(target=look_on, args=(server.get_port(),), daemon=True)
    viewer.start()
    pipe.recv()
    assert plain.pid is not None and process.pid is not None
    found: dict[str, list[float]] = {"plain": [], "plain_cpu": [], "view": [], "view_cpu": [], "fps": []}
    for turn in range(settings.warmup + settings.turns):
        taken: dict[str, float] = {}
        for kind in ("plain", "view") if turn % 2 else ("view", "plain"):
            pid = plain.pid if kind == "plain" else process.pid
            began, cpu, frames = time.perf_counter(), processor_seconds(pid), page.frames
            if kind == "plain":
                pipe.send(body.steps)
                pipe.recv()
            else:
                _play_watched(process, page, body.steps)
            taken[kind] = time.perf_counter() - began
            taken[f"{kind}_cpu"] = processor_seconds(pid) - cpu
            if kind == "view":
                taken["fps"] = (page.frames - frames) / taken[kind]
        if turn >= settings.warmup:
            for name, seconds in taken.items():
                found[name].append(seconds)
    page.close()
    process.close()
    server.stop()
    viewer.terminate()
    pipe.send(None)
    plain.join()
    middle = {name: statistics.median(values) for name, values in found.items()}
    ratios = [v / p for v, p in zip(found["view_cpu"], found["plain_cpu"], strict=True)]
    walls = [v / p for v, p in zip(found["view"], found["plain"], strict=True)]
    measured = {
        **asdict(body),
        "pictures_per_second": middle["fps"],
        "steps_per_second": body.steps / middle["view"],
        "processor_ratio": sum(found["view_cpu"]) / sum(found["plain_cpu"]),
        "processor_ratio_of_turns": statistics.median(ratios),
        "wall_ratio_of_turns": statistics.median(walls),
        "turns": found,
    }
    print({k: v for k, v in measured.items() if k != "turns"}, flush=True)
    return measured


def _play_watched(process: PlanningProcess, page: LivePage, steps: int) -> None:
    before = page.newest
    start = 0 if before is None else before.step + 10_000 * before.episode
    process.send("step", steps=steps)
    while True:
        newest = page.newest
        if newest is not None and not newest.running:
            now = newest.step + 10_000 * newest.episode
            if now >= start + steps or (newest.episode > (before.episode if before else 0)):
                return
        time.sleep(0.002)


def main(settings: Settings) -> None:
    """Measure every body and keep the result."""
    bodies = []
    for body in BODIES:
        load = os.getloadavg()[0]
        bodies.append({**measure(body, settings), "load_before": load})
        result(settings.out, settings, processors=os.cpu_count(), bodies=bodies)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
