"""Messages: what goes over the wire comes back, and bytes that are none are told apart."""

import subprocess
import sys

import msgspec
import numpy as np
import pytest

from tdm_agents.serving.wire import (
    DTYPES,
    Act,
    Acted,
    Refused,
    WireError,
    decoded_answer,
    decoded_question,
    encoded,
)


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 1, 4)])
def test_arrays_come_back(dtype, shape):
    array = (np.arange(np.prod(shape, dtype=int)).reshape(shape) % 2).astype(dtype)
    (found,) = decoded_question(encoded(Act([array]))).observation
    assert found.dtype == array.dtype and found.shape == shape and (found == array).all()
    found[...] = 1  # environments may write to their actions


def test_observations_of_dict_and_tuple_spaces_come_back():
    asked = Act({"a": np.ones(2, np.float32), "b": [np.int64(3), np.zeros((1, 2), ">f8")]}, b"state", seed=-5)
    found = decoded_question(encoded(asked))
    assert found.state == b"state" and found.seed == -5 and found.start is None
    assert (found.observation["a"] == 1).all() and found.observation["b"][0] == 3
    assert found.observation["b"][1].dtype == "<f8"
    assert decoded_answer(encoded(Refused("busy", "later"))) == Refused("busy", "later")
    answer = decoded_answer(encoded(Acted(np.float32([1, 2]), b"next")))
    assert answer.state == b"next" and (answer.action == [1, 2]).all()


@pytest.mark.parametrize("value", [np.array(["text"]), np.array([None]), np.array([1j]), object()])
def test_what_is_neither_number_nor_boolean_is_not_sent(value):
    with pytest.raises(TypeError, match="cannot be sent"):
        encoded(Act(value))


def array(*header):
    return msgspec.msgpack.encode(
        {"type": "act", "observation": msgspec.msgpack.Ext(1, msgspec.msgpack.encode(header))}
    )


@pytest.mark.parametrize(
    "data",
    [
        "text",
        b"",
        b"\xc1",
        encoded(Refused("busy", "not a question")),
        msgspec.msgpack.encode({"type": "act"}),
        msgspec.msgpack.encode({"type": "act", "observation": 1, "more": 2}),
        msgspec.msgpack.encode({"type": "act", "observation": 1, "state": "text"}),
        msgspec.msgpack.encode({"type": "act", "observation": 1, "reward": {"a": 1}}),
        msgspec.msgpack.encode({"type": "act", "observation": msgspec.msgpack.Ext(2, b"")}),
        array("|O", [1], b"12345678"),
        array("<f4", [2], b"1234"),
        array("<f4", [-1, -1], b"1234"),
        array("<f4", [2**62, 4, 0], b"1"),
        array("<f4", [1] * 17, b"1234"),
        array("<f4", [1]),
        b"\x81\xa4type" + b"\x91" * 100_000,  # as deep as that
        b"\xdd\xff\xff\xff\xff",  # a list that claims to be long
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff1",
    ],
)
def test_bytes_that_are_no_question_are_refused(data):
    with pytest.raises(WireError):
        decoded_question(data)


def test_mutated_questions_are_read_or_refused():
    generator = np.random.default_rng(0)
    whole = encoded(Act({"a": np.ones((2, 3))}, b"s" * 50, start=np.array([True, False]), reward=np.zeros(2)))
    refused = 0
    for _ in range(3000):
        data = bytearray(whole)
        for place in generator.integers(0, len(data), generator.integers(1, 4)):
            data[place] = generator.integers(256)
        data = bytes(data[: generator.integers(len(data) // 2, len(data) + 1)])
        try:
            decoded_question(data)
        except WireError:
            refused += 1
    assert refused > 1000


def test_the_client_needs_no_torch():
    code = "import sys; from tdm_agents.serving import RemoteAgent; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
