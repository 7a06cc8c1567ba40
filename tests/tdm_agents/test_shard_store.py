"""Episodes handed over on file systems of fsspec: files, memory, and S3 where a server of it is installed."""

import multiprocessing
import socket
import subprocess
import sys
import time

import pytest

from tdm_agents.collection.shard_store import ShardStore
from tdm_agents.data.minari_io import DataError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "random-000001.safetensors"
    path.write_bytes(bytes(range(256)) * 100)
    return path


@pytest.fixture(params=["file", "memory", "s3"])
def store(request, tmp_path, monkeypatch):
    if request.param == "file":
        yield ShardStore(f"file://{tmp_path}/elsewhere/walkers")
    elif request.param == "memory":
        yield ShardStore("memory://walkers")
    else:
        for package in ("s3fs", "moto", "flask_cors"):  # pip install s3fs 'moto[s3]' flask flask-cors
            pytest.importorskip(package)
        import s3fs

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = ["-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL)
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until:
                with socket.socket() as knock:
                    if knock.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
            monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            s3fs.S3FileSystem().mkdir("bucket")
            yield ShardStore("s3://bucket/walkers")
        finally:
            server.kill()
            server.wait()


def test_what_is_put_there_is_fetched_from_there(store, file, tmp_path):
    tree = store.below("tree")
    assert tree.names() == set()
    tree.put(file)
    tree.put(file)  # done again, after the death of a worker
    other = tmp_path / "random-000002.safetensors"
    other.write_bytes(b"another")
    tree.put(other)
    assert tree.names() == {file.name, other.name}
    tree.fetch(file.name, tmp_path / "here" / "fetched")
    assert (tmp_path / "here" / "fetched").read_bytes() == file.read_bytes()
    with pytest.raises(DataError, match=r"random-000003.*cannot be fetched"):
        tree.fetch("random-000003.safetensors", tmp_path / "absent")
    tree.remove({file.name, "random-000003.safetensors"})
    assert tree.names() == {other.name} and store.below("line").names() == set()


def put(store, file):
    store.put(file)


def test_it_can_be_sent_to_a_worker(tmp_path, file):
    store = ShardStore(f"file://{tmp_path}/elsewhere")
    worker = multiprocessing.get_context("spawn").Process(target=put, args=(store, file))
    worker.start()
    worker.join(100)
    assert store.names() == {file.name}


def test_a_url_that_cannot_be_used_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nonsense://here"):
        ShardStore("nonsense://here").names()
    (tmp_path / "a_file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        ShardStore(f"file://{tmp_path}/a_file/below").put(tmp_path / "a_file")
