"""A server and its clients: sessions, refusals, limits, and clients that do not behave."""

import contextlib
import socket
import threading
import time
from dataclasses import fields

import gymnasium as gym
import msgspec
import numpy as np
import pytest
from gymnasium import spaces
from served_agents import (
    KEY,
    OBSERVATION,
    next_observation,
    observations,
    played,
    served,
    small_agent,
    until,
)
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tdm_agents.errors import WrongOrderError, WrongTypeError, WrongValueError
from tdm_agents.serving import RemoteAgent, RemoteError, wire
from tdm_agents.spaces.space_json import space_from_json


@pytest.fixture(scope="module")
def address():
    with served(small_agent(), rows=8) as found:
        yield found


@pytest.fixture
def remote(address):
    with RemoteAgent(address, patience=10) as found:
        yield found


class Small(gym.Env):
    """Episodes of five steps."""

    observation_space = OBSERVATION
    action_space = spaces.Box(-2.0, 2.0, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left, self.x = 5, self.np_random.normal(size=3).astype(np.float32)
        return self.x, {}

    def step(self, action):
        assert action in self.action_space
        self.left, self.x = self.left - 1, next_observation(self.x, action)
        return self.x, float(self.x.sum()), False, not self.left, {}


def test_a_session_is_the_agent_alone_to_the_last_bit(remote):
    for seed in (0, 7):
        assert (played(remote, 6, seed) == played(small_agent(), 6, seed)).all()


def test_resets_go_on_with_the_random_numbers_in_one_environment_or_in_some(remote):
    local = small_agent(seed=4)
    remote.reset(seed=4)
    local.reset()
    for agent_step, observation in enumerate(observations(9, 3)):
        if agent_step == 3:
            for agent in (local, remote):
                agent.reset(mask=[True, False, True])
        if agent_step == 6:  # another number of environments
            for agent in (local, remote):
                agent.reset()
        obs = observation[:2] if agent_step >= 6 else observation
        told = {"reward": np.array([0.5, np.nan, 1.0])[: len(obs)]} if agent_step % 2 else {}
        if agent_step == 7:
            told |= {"episode_start": [True, False], "active": [True, False]}
        one, other = remote.act(obs, **told), local.act(obs, **told)
        rows = told.get("active", slice(None))
        assert (one[rows] == other[rows]).all() and one.dtype == other.dtype


def test_evaluate_policy_takes_a_remote_agent(address):
    def evaluated(agent):
        env = DummyVecEnv([Small, Small])
        env.seed(3)
        return evaluate_policy(agent, env, 4, return_episode_rewards=True, warn=False)

    with RemoteAgent(address, seed=2) as remote:
        assert evaluated(remote) == evaluated(remote) == evaluated(small_agent(seed=2))


def test_predict_keeps_everything_in_the_state(remote):
    local, state, other = small_agent(), None, None
    for observation in observations(4, 2):
        mine, state = remote.predict(observation, state, deterministic=True)
        expected, other = local.predict(observation, other, deterministic=True)
        assert (mine == expected).all()
    again = [remote.predict(observations(1, 2)[0], state)[0] for _ in range(2)]
    assert (again[0] == again[1]).all()


def test_many_sessions_at_once_get_what_each_gets_alone(address):
    found = {}

    def one(seed):
        with RemoteAgent(address) as agent:
            found[seed] = played(agent, 6, seed)

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for seed, actions in found.items():
        np.testing.assert_allclose(actions, played(small_agent(), 6, seed), atol=1e-4)
    assert len(found) == 10


def test_discrete_actions_and_held_actions_are_those_of_the_agent():
    local = small_agent("cem", action=spaces.Discrete(4, start=2), action_repeat=3)
    with served(local, rows=4) as address, RemoteAgent(address) as remote:
        remote.reset(seed=1)
        found = [remote.act(o) for o in observations(7)]
        assert remote.hello.discrete and isinstance({2: 1}.get(found[0], 1), int)
        assert space_from_json(remote.hello.action_space) == local.model.spec.action_space
    local.reset(seed=1)
    assert found == [local.act(o) for o in observations(7)]


def test_mistakes_are_told_and_leave_the_session_as_it_was(remote, address):
    with pytest.raises(WrongOrderError, match="reset"):
        RemoteAgent(address).act(np.zeros(3))
    remote.reset(seed=1)
    first = remote.act(np.zeros(3, np.float32))
    for bad, kind, message in (
        (np.zeros(4), WrongValueError, "observation"),
        (np.full(3, np.nan), WrongValueError, "nan"),
        (np.zeros((9, 3)), WrongValueError, "at most 8"),
        (np.zeros((2, 3)), WrongValueError, r"reset\(\)"),
        (np.zeros((4000, 3)), WrongValueError, "the server takes"),
        ({"a": np.zeros(3)}, WrongValueError, "observation"),
        (np.array("text"), WrongTypeError, "cannot be sent"),
    ):
        with pytest.raises(kind, match=message):
            remote.act(bad)
    local = small_agent()
    local.reset(seed=1)
    assert (first == local.act(np.zeros(3, np.float32))).all()
    assert (remote.act(np.ones(3, np.float32)) == local.act(np.ones(3, np.float32))).all()
    with pytest.raises(WrongTypeError, match="state"):
        remote.predict(np.zeros(3), state="text")
    with pytest.raises(WrongValueError, match="altered"):
        remote.predict(np.zeros(3), state=b"x" * 400)


def test_elsewhere_a_token_is_demanded():
    with served(small_agent(), token="a-secret", host="0.0.0.0") as address:
        with RemoteAgent(address, token="a-secret") as remote:
            remote.reset()
            assert remote.act(np.zeros(3)).shape == (2,)
        for token, is_ in ((None, "missing"), ("wrong", "another")):
            with pytest.raises(RemoteError, match=f"the token is {is_}; .* `token` in --out"):
                RemoteAgent(address, token=token).hello  # noqa: B018


def test_another_sites_page_is_turned_away(address):
    with pytest.raises(Exception, match="403"):
        connect(address, additional_headers={"Origin": "http://evil.example"})


def test_a_server_that_is_away_is_waited_for_and_then_named():
    with RemoteAgent("ws://127.0.0.1:9", patience=0.3) as remote:
        remote.reset()
        with pytest.raises(RemoteError, match="tdm serve"):
            remote.act(np.zeros(3))
    with pytest.raises(WrongValueError, match="ws://HOST:PORT"):
        RemoteAgent("127.0.0.1:9").hello  # noqa: B018


def test_connections_beyond_the_limit_come_back_when_one_is_free():
    with served(small_agent(), sessions=2) as address:
        taken = [RemoteAgent(address) for _ in range(2)]
        for agent in taken:
            agent.reset()
            agent.act(np.zeros(3))
        with pytest.raises(RemoteError, match="503"):
            RemoteAgent(address, patience=0.2).hello  # noqa: B018
        timer = threading.Timer(0.3, taken[0].close)
        timer.start()
        with RemoteAgent(address, patience=20) as third:
            assert played(third, 2, 0).shape == (2, 2)
        taken[1].close()


def test_a_question_that_waits_too_long_is_asked_again():
    agent = small_agent()
    planner, slow = agent.planner, threading.Event()

    class Slow(type(planner)):
        def plan(self, *args, **kwargs):
            if slow.is_set():
                slow.clear()
                time.sleep(1.0)
            return super().plan(*args, **kwargs)

    agent.planner = Slow(**{field.name: getattr(planner, field.name) for field in fields(planner)})
    with served(agent, wait=0.2) as address, RemoteAgent(address, patience=20) as remote:
        remote.hello  # noqa: B018
        slow.set()
        assert (played(remote, 3, 5) == played(small_agent(), 3, 5)).all()
        with connect(address) as other:
            other.recv()
            slow.set()
            other.send(wire.encoded(wire.Act(np.zeros(3))))
            assert wire.decoded_answer(other.recv(10)).kind == wire.BUSY


def test_a_connection_that_says_nothing_or_reads_nothing_is_closed():
    with served(small_agent(), idle=0.4) as address, RemoteAgent(address) as remote:
        remote.reset(seed=3)
        first = remote.act(np.zeros(3, np.float32))
        with connect(address) as other:
            other.recv()
            with pytest.raises(ConnectionClosed) as closed:
                other.recv(10)
        assert closed.value.rcvd.code == 1008
        # whoever comes back goes on
        local = small_agent()
        local.reset(seed=3)
        assert (first == local.act(np.zeros(3, np.float32))).all()
        time.sleep(0.6)
        assert (remote.act(np.ones(3, np.float32)) == local.act(np.ones(3, np.float32))).all()


def mutated(whole, generator):
    """A frame that is damaged somewhere, cut, too long, or nonsense."""
    kind = generator.integers(5)
    if kind == 0:
        return whole[: generator.integers(len(whole))]
    if kind == 1:
        return generator.bytes(generator.integers(1, 2000))
    if kind == 2:
        return whole + generator.bytes(generator.integers(1, 200))
    if kind == 3:
        return "text" * int(generator.integers(1, 100))
    data = bytearray(whole)
    for place in generator.integers(0, len(data), generator.integers(1, 6)):
        data[place] = generator.integers(256)
    return bytes(data)


def test_clients_that_send_nonsense_change_nothing_for_the_others(address):
    generator, done, answered = np.random.default_rng(0), threading.Event(), set()
    whole = wire.encoded(wire.Act(np.zeros(3, np.float32), start=np.array([True]), reward=np.zeros(1)))

    def nonsense():
        while not done.is_set():
            with contextlib.suppress(OSError, ConnectionClosed), connect(address) as other:
                hello = wire.decoded_answer(other.recv(10))
                for _ in range(20):
                    other.send(mutated(whole, generator))
                    answered.add(getattr(wire.decoded_answer(other.recv(10)), "kind", "acted"))
                other.send(b"x" * (hello.max_bytes + 1))
                with contextlib.suppress(TimeoutError):
                    other.recv(10)

    half = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
    half.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")  # a handshake that never ends
    thread = threading.Thread(target=nonsense, daemon=True)
    thread.start()
    try:
        with RemoteAgent(address) as remote:
            for seed in range(4):
                found = played(remote, 8, seed)
                np.testing.assert_allclose(found, played(small_agent(), 8, seed), atol=1e-4)
    finally:
        done.set()
        thread.join(30)
        half.close()
    assert not thread.is_alive()
    assert wire.MALFORMED in answered and wire.BUG not in answered


def test_a_message_beyond_the_limit_ends_its_connection_alone(address, remote):
    remote.reset(seed=0)
    remote.act(np.zeros(3))
    with connect(address) as other:
        other.recv()
        with contextlib.suppress(ConnectionClosed):
            other.send(b"x" * (remote.hello.max_bytes + 1))
        with pytest.raises(ConnectionClosed) as closed:
            other.recv(10)
        assert closed.value.rcvd.code == 1009
    assert remote.act(np.zeros(3)).shape == (2,)


def test_an_array_that_claims_to_be_large_takes_no_memory(address):
    header = msgspec.msgpack.encode(("<f8", [2**40, 2**20], b"12345678"))
    question = msgspec.msgpack.encode({"type": "act", "observation": msgspec.msgpack.Ext(1, header)})
    with connect(address) as other:
        other.recv()
        other.send(question)
        assert wire.decoded_answer(other.recv(10)).kind == wire.MALFORMED


def test_a_restarted_server_with_its_key_goes_on_and_one_with_another_does_not():
    agent = small_agent()
    with served(agent) as address, RemoteAgent(address) as remote:
        remote.reset(seed=8)
        remote.act(observations(2)[0])
        state = remote._state
    with served(small_agent(), key=KEY) as address, RemoteAgent(address) as other:
        other._state = state
        agent.reset(seed=8)
        agent.act(observations(2)[0])
        assert (other.act(observations(2)[1]) == agent.act(observations(2)[1])).all()
    with served(small_agent(), key=b"another") as address, RemoteAgent(address) as other:
        other._state = state
        with pytest.raises(WrongValueError, match="another key"):
            other.act(np.zeros(3))


def test_ending_closes_what_is_open():
    with served(small_agent()) as address:
        remote = RemoteAgent(address, patience=0.1)
        remote.reset()
        remote.act(np.zeros(3))
    with pytest.raises(RemoteError):
        remote.act(np.zeros(3))
    until(lambda: remote._socket is None)


@pytest.mark.parametrize("token", ["a-secret\n", "wröng", " a-secret"])
def test_what_cannot_be_a_token_is_refused_at_once_and_not_repeated(token):
    with pytest.raises(ValueError, match="token holds characters that no token has") as caught:
        RemoteAgent("ws://127.0.0.1:9", token=token)
    assert token.strip() not in str(caught.value)


def test_it_goes_on_trying_for_as_long_as_it_says():
    began = time.monotonic()
    with pytest.raises(RemoteError, match=r"no answer from ws://127.0.0.1:9 for 1.5 s"):
        RemoteAgent("ws://127.0.0.1:9", patience=1.5).hello  # noqa: B018
    assert 1.5 <= time.monotonic() - began < 30
