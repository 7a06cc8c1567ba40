"""Ray clusters of two nodes on this machine, and tasks for them that import little."""

import os
from contextlib import contextmanager

CORES = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
# a dead node is missed after a second, not after a quarter of a minute
SOON = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 300,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
}


@contextmanager
def two_nodes():
    """A cluster of two nodes with one core each, the second of which may be killed; connected to it."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**CORES, "_system_config": SOON})
    try:
        cluster.second = cluster.add_node(**CORES)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def kill_second(cluster):
    """Kill the processes of the second node, as a loss of power does."""
    cluster.remove_node(cluster.second, allow_graceful=False)


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
