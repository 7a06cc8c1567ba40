"""Tasks for a Ray cluster, in a module that imports little."""

import os


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
