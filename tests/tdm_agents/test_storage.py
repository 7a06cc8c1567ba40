import contextlib
import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tdm_agents.storage import (
    CheckpointError,
    read_json,
    read_tensors,
    write_bytes,
    write_json,
    write_tensors,
)

TENSORS = {
    "weight": torch.linspace(-1, 1, 24).reshape(4, 6),
    "half": torch.arange(5).to(torch.bfloat16),
    "count": torch.tensor(7),
    "nan": torch.tensor([math.nan, math.inf]),
}


@contextlib.contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """Files past ``limit`` bytes fail as they do on a full disk, by the kernel's own limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# -- whole or absent --------------------------------------------------------------------------------------


def test_a_file_is_written_with_its_folders_and_nothing_beside_it(tmp_path: Path):
    path = tmp_path / "runs" / "one" / "weights"
    write_bytes(path, b"first")
    write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_half_way_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path):
    path = tmp_path / "weights"
    write_bytes(path, b"old")
    with full_disk(1 << 20), pytest.raises(OSError, match="File too large"):
        write_bytes(path, bytes(3 << 20))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_settings_that_are_not_json_leave_the_old_file(tmp_path: Path):
    path = tmp_path / "settings.json"
    write_json(path, {"schema": 1})
    with pytest.raises(TypeError, match="is no JSON value"):
        write_json(path, {"schema": 1, "device": torch.device("cpu")})
    assert read_json(path, schema=1) == {"schema": 1}


# Imports once, then for each line of input starts a writer, says its id and waits for its end. A writer
# writes files of changing length and content, each of one byte value, until it is killed.
WRITERS = """
import os, sys
from pathlib import Path
from tdm_agents.storage import write_bytes

for _ in sys.stdin:
    writer = os.fork()
    value, said = 0, False
    while not writer:
        value = value % 255 + 1
        write_bytes(Path(sys.argv[1]), bytes([value]) * (200_000 + 10_000 * value))
        if not said:
            print(os.getpid(), flush=True)
            said = True
    os.waitpid(writer, 0)
    print("ended", flush=True)
"""


def test_a_process_killed_while_it_writes_leaves_a_whole_file(tmp_path: Path):
    path = tmp_path / "weights"
    half_written = 0
    delays = random.Random(0)
    command = [sys.executable, "-c", WRITERS, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writers:
        assert writers.stdin is not None
        assert writers.stdout is not None
        for _ in range(100):
            print(file=writers.stdin, flush=True)
            writer = int(writers.stdout.readline())
            time.sleep(delays.uniform(0, 0.02))
            os.kill(writer, signal.SIGKILL)
            assert writers.stdout.readline() == "ended\n"
            data = path.read_bytes()
            assert data == bytes([data[0]]) * (200_000 + 10_000 * data[0])
            rest = list(tmp_path.glob(".*.partial"))
            half_written += len(rest)
            for partial in rest:
                partial.unlink()
            if half_written == 4:
                break
    assert half_written == 4, "too few of 100 kills fell inside a write to show anything"


# -- weights ----------------------------------------------------------------------------------------------


def test_tensors_come_back_bit_by_bit(tmp_path: Path):
    digest = write_tensors(tmp_path / "w", TENSORS)
    loaded = read_tensors(tmp_path / "w", sha256=digest)
    assert loaded.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name].nan_to_num(9.0), tensor.nan_to_num(9.0))


def test_views_and_tensors_with_gradients_are_written_as_their_values(tmp_path: Path):
    base = torch.arange(12.0).reshape(3, 4).requires_grad_()
    write_tensors(tmp_path / "w", {"transposed": base.T, "column": base[:, 1]})
    loaded = read_tensors(tmp_path / "w")
    assert torch.equal(loaded["transposed"], base.detach().T)
    assert torch.equal(loaded["column"], base.detach()[:, 1])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, str]:
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    digest = write_tensors(path, TENSORS)
    return path, path.read_bytes(), digest


@settings(deadline=None)
@given(fraction=st.floats(0, 1, exclude_max=True))
def test_truncated_weights_are_refused_with_or_without_a_digest(saved, fraction):
    path, data, digest = saved
    path.write_bytes(data[: int(fraction * len(data))])
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*truncated or was altered; copy or train"):
        read_tensors(path, sha256=digest)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a safetensors file"):
        read_tensors(path)


@settings(deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_weights_with_one_altered_byte_are_refused(saved, position, change):
    path, data, digest = saved
    altered = bytearray(data)
    altered[int(position * len(data))] ^= change
    path.write_bytes(altered)
    with pytest.raises(CheckpointError, match="was altered"):
        read_tensors(path, sha256=digest)


def test_a_pickle_is_not_loaded(tmp_path: Path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "w")
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        read_tensors(tmp_path / "w")


def test_a_missing_file_asks_whether_this_is_a_checkpoint(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"is missing: is .* a checkpoint folder"):
        read_tensors(tmp_path / "w")
    with pytest.raises(CheckpointError, match=r"is missing: is .* a checkpoint folder"):
        read_json(tmp_path / "settings.json", schema=1)


# -- settings ---------------------------------------------------------------------------------------------


JSON_VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@settings(deadline=None, max_examples=25)  # each example waits for the disk
@given(value=st.dictionaries(st.text(max_size=5), JSON_VALUES))
def test_settings_come_back_as_they_were(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "settings.json"
    value = value | {"schema": 3}
    write_json(path, value)
    assert read_json(path, schema=3) == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps({"schema": 1}), "has schema 1; this version of tdm-agents reads 2"),
        (json.dumps({"schema": "2"}), "has schema '2'; this version"),
        (json.dumps({}), "has schema None; this version"),
        (json.dumps([{"schema": 2}]), "has schema 'list'; this version"),
        ('{"schema": 2', "is not JSON .*restore it from where it came"),
        ("", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
    ],
)
def test_settings_of_another_schema_or_form_are_refused(tmp_path, content, message):
    path = tmp_path / "settings.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CheckpointError, match=message):
        read_json(path, schema=2)
