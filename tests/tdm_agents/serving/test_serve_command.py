"""``tdm serve`` in the terminal: its address, its end, refusals, and kills amid many sessions."""

import signal
import stat
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from served_agents import played, serving, small_agent

from tdm_agents.cli.main import main
from tdm_agents.serving import RemoteAgent, RemoteError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "agent"
    small_agent().save(folder)
    return folder


@pytest.mark.timeout(900)  # three starts of a process, each of which imports torch
def test_a_kill_amid_sessions_loses_nothing(checkpoint, tmp_path):
    steps, sessions, found = 40, 8, {}
    words = ("--checkpoint", checkpoint, "--batch", 8, "--exact")

    def one(seed):
        with RemoteAgent(running.address, patience=600) as agent:
            found[seed] = played(agent, steps, seed)

    def all_of_them():
        threads = [threading.Thread(target=one, args=(seed,)) for seed in range(sessions)]
        for thread in threads:
            thread.start()
        return threads

    with serving(tmp_path, *words) as running:
        for thread in all_of_them():
            thread.join(100)
        undisturbed = dict(found)
        found.clear()
        threads = all_of_them()
        time.sleep(0.3)
        assert not found, "the sessions ended before the kill"
        running.kill()
        running.start()
        for thread in threads:
            thread.join(600)
        assert len(found) == len(undisturbed) == sessions
        for seed, actions in found.items():
            assert (actions == undisturbed[seed]).all()
            np.testing.assert_allclose(actions, played(small_agent(), steps, seed), atol=1e-3)


def test_signals_end_it_at_once_and_quietly(checkpoint, tmp_path):
    with serving(tmp_path, "--checkpoint", checkpoint, "--host", "0.0.0.0") as running:
        token = (tmp_path / "out" / "token").read_text()
        for name in ("key", "token"):
            assert stat.S_IMODE((tmp_path / "out" / name).stat().st_mode) == 0o600
        address = running.address.replace("0.0.0.0", "127.0.0.1")
        with pytest.raises(RemoteError, match="token"):
            RemoteAgent(address).hello  # noqa: B018
        with RemoteAgent(address, token=token) as remote:
            assert played(remote, 2, 0).shape == (2, 2)
            assert running.end(signal.SIGINT) == (0, "")
            running.start()
            assert running.end(signal.SIGTERM) == (0, "")
    log = running.log.read_text()
    assert "Traceback" not in log and "Error" not in log and "its sessions go on" in log


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to serve: pass --checkpoint"),
        (("--checkpoint", "nonsense"), "no checkpoint named 'nonsense'"),
        (("--checkpoint", "cartpole-swingup", "--batch", "0"), "--batch is 0"),
        (("--checkpoint", "cartpole-swingup", "--port", "70000"), "--port is 70000"),
        (("--checkpoint", "cartpole-swingup", "--gather", "-1"), "--gather is -1"),
        (("--checkpoint", "cartpole-swingup", "--wait", "0"), "--wait is 0"),
        (("--checkpoint", "cartpole-swingup", "--planner", "cemm"), "did you mean 'cem'"),
        (("--checkpoint", "{small}", "--host", "192.0.2.1"), "192.0.2.1:8765 cannot be listened at"),
    ],
)
def test_a_mistake_is_one_line(words, message, checkpoint, tmp_path, capsys):
    words = [word.format(small=checkpoint) for word in words]
    assert main(["serve", *words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert message in said.err and "Traceback" not in said.err and not said.out


def test_a_damaged_key_is_refused(checkpoint, tmp_path, capsys):
    (tmp_path / "key").write_text("short")
    assert main(["serve", "--checkpoint", str(checkpoint), "--out", str(tmp_path)]) == 2
    assert "delete it" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["msgspec", "websockets"])
def test_without_the_extra_the_remedy_is_named(missing, tmp_path):
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from tdm_agents.cli.main import main\n"
        f"sys.exit(main(['serve', '--checkpoint', 'cartpole-swingup', '--out', {str(tmp_path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and "pip install 'tdm-agents[serve]'" in done.stderr
