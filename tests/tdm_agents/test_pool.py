import multiprocessing
import os
import signal
import textwrap
import time
from itertools import count, islice

import pytest

from tdm_agents.collection.pool import WorkerDeath, WorkerDiedError, WorkerPool, _serve

# workers import what they do by name, from a module that they find where the parent does
WORK = """
    import os, signal

    def double(number):
        return 2 * number

    def pid(task):
        return os.getpid()

    def die_once(path):
        if not path.exists():
            path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return path.name

    def die(task):
        os._exit(3)

    class Odd(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    def fail(kind):
        raise Odd(1, 2) if kind == "odd" else ValueError("no such " + kind)

    def threads(task):
        return os.environ["OMP_NUM_THREADS"], signal.getsignal(signal.SIGINT) == signal.SIG_IGN
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    (tmp_path / "pool_work.py").write_text(textwrap.dedent(WORK))
    monkeypatch.syspath_prepend(tmp_path)
    import pool_work

    return pool_work


def test_every_task_is_done_once_and_tasks_are_drawn_as_they_are_needed(work):
    drawn = []

    def tasks():
        for number in count():
            drawn.append(number)
            yield number

    with WorkerPool(2) as pool:
        results = list(islice(pool.imap_unordered(work.double, tasks()), 20))
        assert len(drawn) <= 20 + 2
    assert len(set(results)) == 20 and set(results) <= {2 * number for number in drawn}
    with WorkerPool(2) as pool:
        assert sorted(pool.imap_unordered(work.double, range(9))) == [2 * n for n in range(9)]
        assert list(pool.imap_unordered(work.double, [])) == []
        assert set(pool.imap_unordered(work.threads, range(2))) == {("1", True)}


def test_a_killed_worker_is_reported_and_its_task_done_by_another(work, tmp_path):
    deaths: list[WorkerDeath] = []
    paths = [tmp_path / name for name in "abcd"]
    for path in paths[2:]:
        path.touch()
    with WorkerPool(1, on_death=deaths.append) as pool:
        assert sorted(pool.imap_unordered(work.die_once, paths)) == ["a", "b", "c", "d"]
    assert [(d.task, d.how, d.deaths) for d in deaths] == [(p, "SIGKILL", 1) for p in paths[:2]]
    assert "SIGKILL" in str(deaths[0]) and "another one" in str(deaths[0])


def test_a_worker_that_dies_while_idle_is_replaced_too(work):
    deaths: list[WorkerDeath] = []
    with WorkerPool(1, on_death=deaths.append) as pool:
        (pid,) = pool.imap_unordered(work.pid, [0])
        os.kill(pid, signal.SIGKILL)
        (other,) = pool.imap_unordered(work.pid, [1])
    assert other != pid and [death.worker for death in deaths] == [f"worker {pid}"]


def test_a_task_that_kills_every_worker_is_named(work):
    with (
        WorkerPool(1, max_deaths=2) as pool,
        pytest.warns(UserWarning, match="exit status 3"),
        pytest.raises(WorkerDiedError) as caught,
    ):
        list(pool.imap_unordered(work.die, ["the last straw"]))
    assert "2 workers ended while doing the last straw" in str(caught.value)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(("kind", "error", "text"), [("luck", ValueError, "no such luck"),
                                                     ("odd", RuntimeError, "1 and 2")])  # fmt: skip
def test_an_error_of_a_task_is_raised_where_results_are_awaited(work, kind, error, text):
    with WorkerPool(1) as pool, pytest.raises(error, match=text) as caught:
        list(pool.imap_unordered(work.fail, [kind]))
    told = str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
    assert "pool_work.py" in told, "where in the worker it happened is not told"


def test_mistakes_of_the_caller_are_refused(work):
    with pytest.raises(ValueError, match="processes is 0"):
        WorkerPool(0)
    with pytest.raises(ValueError, match="max_deaths is 0"):
        WorkerPool(max_deaths=0)
    with WorkerPool(1) as pool, pytest.raises(ValueError, match="chunksize is 2"):
        next(pool.imap_unordered(work.double, [1], chunksize=2))
    with WorkerPool(2) as pool:
        next(pool.imap_unordered(work.double, [1, 2]))
        with pytest.raises(RuntimeError, match="still busy"):
            next(pool.imap_unordered(work.double, [3]))


@pytest.mark.parametrize("task", [(abs, -1), (time.sleep, 0.5)], ids=["a result unread", "a result unsent"])
def test_a_worker_whose_parent_is_gone_ends_without_a_word(task):
    ours, theirs = multiprocessing.Pipe()
    worker = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, None))
    worker.start()
    theirs.close()
    ours.send(task)
    if task[0] is abs:
        assert ours.poll(100)
    ours.close()
    worker.join(100)
    assert worker.exitcode == 0
