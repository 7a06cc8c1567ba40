"""Does ``tdm serve`` hold many sessions, and does it lose one when it is killed or sent nonsense?

Sessions of the shipped TD-MPC2 agent, with its planner, play against one server of one thread. Each has an
environment of its own that depends on every one of its actions, so that one wrong action is seen in all that
follow.
The runs, one after the other:

* ``calm``: every batch is filled up (``--exact``), nobody disturbs. Its actions are what the next two runs
  are compared with, to the last bit.
* ``killed``: the server is killed (SIGKILL) and started again ten times while the sessions go on.
* ``nonsense``: beside the sessions, clients send damaged, cut, oversized and half messages.
* ``open``: batches as large as whoever is waiting, the default. Compared with ``calm`` up to rounding, and
  the first sessions with the agent alone in this process.
* ``one_by_one``: fewer sessions, no shared batches (``--batch 1``), for the rate.

Clients and server share the machine, so that rates are those of both together.

    python benchmarks/serve_load.py
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tyro
from gymnasium import spaces
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from keep import result
from tdm_agents.agent import TDMAgent, agent_files
from tdm_agents.environments import make_env
from tdm_agents.serving import RemoteAgent, wire
from tdm_agents.spaces.space_json import space_from_json

Actions = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """How much, and where to."""

    out: Path = Path("benchmarks/results/serve_load.json")
    """Where to write the result."""
    checkpoint: str = "cartpole-swingup-tdmpc2"
    """Whose sessions they are."""
    sessions: int = 200
    """Sessions at once."""
    steps: int = 24
    """Environment steps of each."""
    batch: int = 32
    """Environments of a batch."""
    kills: int = 10
    """Kills of the server."""
    frames: int = 1000
    """Frames of nonsense, at least."""
    alone: int = 10
    """Sessions that are compared with the agent alone."""
    folder: Path = Path("runs/serve_load")
    """Folder of the server's secrets and log."""


class Server:
    """A ``tdm serve`` process that can be started again at its port."""

    def __init__(self, settings: Settings, *words: str) -> None:
        settings.folder.mkdir(parents=True, exist_ok=True)
        self._log = settings.folder / "serve.log"
        self._command = [sys.executable, "-m", "tdm_agents", "serve", "--checkpoint", settings.checkpoint]
        self._command += ["--out", str(settings.folder), *words]
        self._port = "0"
        self.address = ""

    def start(self) -> float:
        """Start it, and return the seconds until it listens."""
        began = time.perf_counter()
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                [*self._command, "--port", self._port], stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        self._port = self.address.rpartition(":")[2]
        assert self._port, self._log.read_text()
        return time.perf_counter() - began

    def kill(self) -> None:
        """As ``kill -9`` does."""
        self.process.kill()
        self.process.wait()


class Sessions:
    """Sessions that play at once, each in a thread.

    Args:
        address: The server.
        count: How many.
        steps: Environment steps of each.
    """

    def __init__(self, address: str, count: int, steps: int) -> None:
        self.actions: dict[int, Actions] = {}
        self.seconds: list[float] = []
        self.done = 0
        self.failed: list[str] = []
        self._address, self._steps = address, steps
        self._threads = [threading.Thread(target=self._play, args=(seed,)) for seed in range(count)]
        self._began = time.perf_counter()
        for thread in self._threads:
            thread.start()

    @property
    def under_way(self) -> bool:
        """Whether a session still plays."""
        return any(thread.is_alive() for thread in self._threads)

    def wait(self) -> float:
        """Wait for all of them; seconds since they began."""
        for thread in self._threads:
            thread.join()
        assert not self.failed, self.failed
        return time.perf_counter() - self._began

    def _play(self, seed: int) -> None:
        try:
            with RemoteAgent(self._address, timeout=120, patience=1200) as agent:
                space = space_from_json(agent.hello.observation_space)

                def act(observation: Any) -> Actions:
                    began = time.perf_counter()
                    action: Actions = agent.act(observation)
                    self.seconds.append(time.perf_counter() - began)
                    self.done += 1
                    return action

                agent.reset(seed=seed)
                self.actions[seed] = played(act, space, self._steps, seed)
        except Exception as error:
            self.failed.append(f"{seed}: {error!r}")


def played(act: Callable[[Any], Actions], space: spaces.Space[Any], steps: int, seed: int) -> Actions:
    """The actions of one session; what they sum to pushes every scalar that is observed next."""
    observation = np.random.default_rng(seed).normal(0, 0.1, spaces.flatdim(space))
    actions: list[Actions] = []
    for _ in range(steps):
        actions.append(np.array(act(spaces.unflatten(space, observation)), np.float64))
        observation = 0.9 * np.roll(observation, 1) + 0.1 * actions[-1].sum()
    return np.array(actions)


@contextlib.contextmanager
def running(settings: Settings, *words: str) -> Iterator[Server]:
    server = Server(settings, *words)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def rates(sessions: Sessions, seconds: float) -> dict[str, Any]:
    """Actions per second, and percentiles of what a client waits for one."""
    waits = sorted(sessions.seconds)
    percentiles = {f"p{p}_ms": 1e3 * waits[min(len(waits) - 1, len(waits) * p // 100)] for p in (50, 90, 99)}
    return {
        "sessions": len(sessions.actions),
        "actions": sessions.done,
        "seconds": seconds,
        "actions_per_second": sessions.done / seconds,
        **percentiles,
        "mean_ms": 1e3 * statistics.mean(waits),
        "load": os.getloadavg()[0],
    }


def equal(sessions: Sessions, calm: Sessions) -> int:
    """Sessions whose actions are those of the calm run, to the last bit."""
    return sum(np.array_equal(sessions.actions[seed], calm.actions[seed]) for seed in calm.actions)


def killed(settings: Settings, server: Server, calm: Sessions) -> dict[str, Any]:
    """Kill and start the server amid the sessions."""
    sessions = Sessions(server.address, settings.sessions, settings.steps)
    total, down = settings.sessions * settings.steps, []
    for kill in range(settings.kills):
        while sessions.done < total * (kill + 0.5) / settings.kills and sessions.under_way:
            time.sleep(0.01)
        assert sessions.under_way, "the sessions ended before the last kill"
        server.kill()
        down.append(server.start())
    seconds = sessions.wait()
    return {
        "kills": settings.kills,
        "equal_sessions": equal(sessions, calm),
        "sessions": settings.sessions,
        "seconds_to_start": statistics.median(down),
        "seconds": seconds,
    }


def nonsense(settings: Settings, server: Server, calm: Sessions) -> dict[str, Any]:
    """Damaged, cut, oversized and half messages beside the sessions."""
    generator = np.random.default_rng(0)
    sent: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    with RemoteAgent(server.address) as agent:
        limit, space = agent.hello.max_bytes, space_from_json(agent.hello.observation_space)
    host, port = server.address.removeprefix("ws://").split(":")
    half_open = []
    for _ in range(20):  # handshakes that never end
        half_open.append(socket.create_connection((host, int(port))))
        half_open[-1].sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        sent["half a handshake"] += 1
    for _ in range(20):  # frames that never end
        half_open.append(socket.create_connection((host, int(port))))
        half_open[-1].sendall(
            f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        half_open[-1].recv(4096)
        half_open[-1].sendall(b"\x82\xfe\x10\x00mask" + b"a few bytes of many")
        sent["half a frame"] += 1
    nothing = spaces.unflatten(space, np.zeros(spaces.flatdim(space)))
    whole = wire.encoded(wire.Act(nothing, start=np.array([True]), reward=np.zeros(1)))
    sessions = Sessions(server.address, settings.sessions, settings.steps)
    while sum(sent.values()) < settings.frames or sessions.under_way:
        with contextlib.suppress(OSError, ConnectionClosed), connect(server.address) as other:
            other.recv(60)
            for _ in range(25):
                kind, frame = mutated(whole, generator)
                other.send(frame)
                sent[kind] += 1
                answers[getattr(wire.decoded_answer(other.recv(60)), "kind", "acted")] += 1
            sent["oversized"] += 1
            other.send(b"x" * (limit + 1))
            with contextlib.suppress(TimeoutError):
                other.recv(60)
        time.sleep(0.05)
    seconds = sessions.wait()
    for one in half_open:
        one.close()
    return {
        "frames": dict(sent),
        "answers": dict(answers),
        "equal_sessions": equal(sessions, calm),
        "sessions": settings.sessions,
        "seconds": seconds,
        "server_alive": server.process.poll() is None,
    }


def mutated(whole: bytes, generator: np.random.Generator) -> tuple[str, bytes | str]:
    """A frame that is no question, or hardly one, and what was done to it."""
    kind = int(generator.integers(4))
    if kind == 0:
        return "cut", whole[: int(generator.integers(len(whole)))]
    if kind == 1:
        return "noise", generator.bytes(int(generator.integers(1, 2000)))
    if kind == 2:
        return "text", "text" * int(generator.integers(1, 100))
    data = bytearray(whole)
    for place in generator.integers(0, len(data), generator.integers(1, 6)):
        data[place] = generator.integers(256)
    return "damaged", bytes(data)


def beside_alone(settings: Settings, sessions: Sessions) -> float:
    """The largest difference of an action from the agent's that acts alone, over the first sessions."""
    agent, worst = TDMAgent.load(settings.checkpoint), 0.0
    assert agent.env_id is not None
    space = make_env(agent.env_id).observation_space
    for seed in range(settings.alone):
        agent.reset(seed=seed)
        expected = played(agent.act, space, settings.steps, seed)
        worst = max(worst, float(np.abs(expected - sessions.actions[seed]).max()))
    return worst


def main(settings: Settings) -> None:
    """Run them all and keep the result."""
    found: dict[str, Any] = {}
    exact = ("--batch", str(settings.batch), "--exact")
    with running(settings, *exact) as server:
        calm = Sessions(server.address, settings.sessions, settings.steps)
        found["calm"] = rates(calm, calm.wait())
        print(found["calm"], flush=True)
        found["nonsense"] = nonsense(settings, server, calm)
        print(found["nonsense"], flush=True)
        found["killed"] = killed(settings, server, calm)
        print(found["killed"], flush=True)
    with running(settings, "--batch", str(settings.batch)) as server:
        free = Sessions(server.address, settings.sessions, settings.steps)
        found["open"] = rates(free, free.wait())
    differences = [float(np.abs(free.actions[s] - calm.actions[s]).max()) for s in calm.actions]
    found["open"] |= {
        "largest_difference_from_calm": max(differences),
        "largest_difference_from_alone": beside_alone(settings, free),
        "compared_with_alone": settings.alone,
    }
    print(found["open"], flush=True)
    with running(settings, "--batch", "1") as server:
        few = Sessions(server.address, settings.batch, max(2, settings.steps // 4))
        found["one_by_one"] = rates(few, few.wait())
    print(found["one_by_one"], flush=True)
    weights = agent_files.resolve(settings.checkpoint) / "weights.safetensors"
    result(settings.out, settings, weights=weights, processors=os.cpu_count(), **found)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
