"""Settings of every test: one thread (the machine is shared), and marked tests only where they can run."""

import os
import signal

os.environ.setdefault("MUJOCO_GL", "disable")

import pytest
import torch

torch.set_num_threads(1)

# what a shell starts in the background ignores Ctrl-C, and so do its children: the tests send it
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
