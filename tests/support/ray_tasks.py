"""Tasks for a Ray cluster, in a module that imports little."""

import os
import time


def double(number):
    return 2 * number


def surroundings(task):
    return os.environ["OMP_NUM_THREADS"], os.environ.get("MUJOCO_GL"), os.getcwd()


def die_once(path):
    if not path.exists():
        path.touch()
        os._exit(1)
    return path.name


def die(task):
    os._exit(3)


def fail(kind):
    raise ValueError("no such " + kind)


def done_unless_on(node, begun, func, task):
    """Do a task, but never end the first one on that node; ``begun`` is a file that then appears."""
    import ray

    if ray.get_runtime_context().get_node_id() == node and not begun.exists():
        begun.touch()
        time.sleep(1000)
    return func(task)
