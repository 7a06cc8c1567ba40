"""The processes that train one model together, as torchrun starts them; or a single process.

All make the same updates of the same weights. Each reads some windows of every batch; gradients, losses and
counts are summed over all. The first process alone writes files, evaluates and speaks.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

from tdm_agents.errors import TDMError
from tdm_agents.world_models.sharded_weights import is_sharded


class LostProcessError(TDMError, RuntimeError):
    """Another process of a run ended, or does not answer."""


@dataclass(frozen=True, slots=True)
class Team:
    """This process among those that train together; the default is one process alone.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
        local_rank: Number of this process on its machine, from 0.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes, evaluates and speaks."""
        return self.rank == 0

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.size == 1:
            return value
        summed = value.clone()
        with _others():
            distributed.all_reduce(summed)
        return summed

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their sums over all processes, in one message; a missing one counts as 0."""
        if self.size == 1:
            return
        weights = [w for w in parameters if not is_sharded(w)]  # the others' are sums already
        if not weights:
            return
        gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with _others():
            distributed.all_reduce(flat)
        several = torch.split(flat, [w.numel() for w in weights])
        for weight, summed in zip(weights, several, strict=True):
            weight.grad = summed.view_as(weight)

    def any(self, flag: bool) -> bool:
        """Whether the flag holds in any process."""
        return bool(self.sum(torch.tensor(int(flag), device="cpu"))) if self.size > 1 else flag

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.any(False)

    def share(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite tensors by those of the first process."""
        if self.size > 1:
            with _others():
                for tensor in tensors.values():
                    distributed.broadcast(tensor, 0)

    def agrees(self, value: bytes) -> bool:
        """Whether all processes have the same value as the first."""
        mine = torch.tensor(list(hashlib.sha256(value).digest()), device="cpu")
        first = mine.clone()
        self.share({"": first})
        return not self.any(not torch.equal(mine, first))

    @contextmanager
    def one_per_machine_first(self) -> Iterator[None]:
        """Run the block in one process of each machine, and then in the others, which find what it made."""
        if self.local_rank:
            self.wait()
        yield
        if not self.local_rank:
            self.wait()


ALONE = Team()


@contextmanager
def launched(device: torch.device, *, wait_minutes: float) -> Iterator[Team]:
    """The team that torchrun (or whatever sets its environment variables) has started this process in.

    Args:
        device: Where this process trains; GPUs talk through NCCL, everything else through Gloo.
        wait_minutes: How long a process waits for the others before it gives up.

    Raises:
        LostProcessError: If the others cannot be reached.
    """
    if processes() == 1:
        yield ALONE
        return
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    with _others():
        distributed.init_process_group(backend, timeout=timedelta(minutes=wait_minutes))
    try:
        yield Team(distributed.get_rank(), distributed.get_world_size(), local_rank())
    finally:
        distributed.destroy_process_group()


def processes() -> int:
    """How many processes were started together: ``WORLD_SIZE``, or 1."""
    started = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
    return int(os.environ["WORLD_SIZE"]) if started and distributed.is_available() else 1


def local_rank() -> int:
    """The number of this process on its machine: ``LOCAL_RANK``, or 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def _others() -> Iterator[None]:
    """Tell what the library raises about other processes in words."""
    try:
        yield
    except RuntimeError as error:
        raise LostProcessError(
            "another process of this run has ended or does not answer "
            f"({' '.join(str(error).split())[:200]}); its own message is above, if it left one: run the same "
            "command again, which goes on from the last checkpoint (where the others only need longer: "
            "--wait-minutes)"
        ) from error
