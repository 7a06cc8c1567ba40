"""Small agents with random weights, servers of them in this process and in one of their own, and sessions."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import torch
from gymnasium import spaces

from tdm_agents import TDMAgent, make_planner
from tdm_agents.guard import Guard
from tdm_agents.serving.policy_server import Limits, PolicyServer
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.world_models.mlp_policy import MLPPolicyConfig, MLPWithPolicy

KEY = b"a key of thirty-two bytes or so."
OBSERVATION = spaces.Box(-np.inf, np.inf, (3,), np.float32)
ACTION = spaces.Box(-2.0, 2.0, (2,), np.float32)


def small_model(action=ACTION, **spec):
    torch.manual_seed(0)
    config = MLPPolicyConfig(hidden=16, layers=1, policy_hidden=16, policy_layers=1)
    return MLPWithPolicy(spec_of(OBSERVATION, action, **spec), config).eval()


def small_agent(planner="mppi", *, seed=0, action=ACTION, replan_every=1, action_repeat=1, **settings):
    if planner in ("mppi", "cem"):
        settings = {"horizon": 4, "num_samples": 8, "iterations": 2} | settings
    return TDMAgent(
        small_model(action, action_repeat=action_repeat),
        make_planner(planner, **settings),
        seed,
        env_id="Small-v0",
        replan_every=replan_every,
    )


def observations(steps, *lead, seed=0):
    return np.random.default_rng(seed).normal(size=(steps, *lead, 3)).astype(np.float32)


def next_observation(observation, action):
    """An environment that depends on its actions, so that a wrong one is seen in all that follow."""
    pushed = 0.1 * np.asarray(action, np.float64).sum()
    return (0.9 * np.roll(observation, 1) + pushed).astype(np.float32)


def played(agent, steps, seed):
    """The actions of a session: an agent in an environment of its own, near or far."""
    agent.reset(seed=seed)
    observation, actions, reward = np.full(3, 0.1 * seed, np.float32), [], None
    for _ in range(steps):
        actions.append(np.array(agent.act(observation, reward=reward)))
        observation = next_observation(observation, actions[-1])
        reward = float(observation[0])
    return np.array(actions)


@contextmanager
def served(agent, *, token=None, key=KEY, host="127.0.0.1", **limits):
    """The address of a server of this process, and the server."""
    ready, ports, loops = threading.Event(), [], []
    server = PolicyServer(agent, key, Guard(host, token, "tdm serve"), Limits(**limits))

    async def serve():
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        await server.run(host, 0, stop, lambda port: (ports.append(port), ready.set()))

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield f"ws://127.0.0.1:{ports[0]}"
    finally:
        (loop, stop), *_ = loops
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        assert not thread.is_alive()


class Serving:
    """A running ``tdm serve``, which can be killed and started again at the same address."""

    def __init__(self, folder, *words):
        self.log = folder / "serve.log"
        self._command = [sys.executable, "-m", "tdm_agents.cli.main", "serve", "--out", str(folder / "out")]
        self._command += [str(word) for word in words]
        self._port, self.address = "0", ""
        self.start()

    def start(self):
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*self._command, "--port", self._port],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "500"},
            )
        self.address = self.process.stdout.readline().strip()
        assert self.address, self.log.read_text()
        self._port = self.address.rpartition(":")[2]

    def kill(self):
        self.process.kill()
        self.process.wait(30)
        self.process.stdout.close()

    def end(self, number=signal.SIGTERM):
        """The exit status after a signal, and what was printed after the address."""
        self.process.send_signal(number)
        printed = self.process.communicate(timeout=60)[0]
        return self.process.returncode, printed


@contextmanager
def serving(folder, *words):
    running = Serving(folder, *words)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.kill()


def until(true, seconds=30.0):
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)
