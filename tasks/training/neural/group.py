"""The processes that train together, one of which may be all there is: sums over them, and what the first has for the others."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Group:
    """What a process knows of the others. Sums go over the CPU's own connection, beside the gradients'."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that keeps checkpoints, says how far training is, and has the result."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """``values`` added over all processes; each gets the same bits."""
        total = torch.tensor(values, dtype=torch.float64)
        if self.world > 1:
            dist.all_reduce(total)
        return [float(value) for value in total]

    def share(self, content: bytes | None) -> bytes | None:
        """What the first process has, for all."""
        if self.world == 1:
            return content
        size = torch.tensor([-1 if content is None or not self.first else len(content)])
        dist.broadcast(size, 0)
        if int(size) < 0:
            return None
        data = torch.empty(int(size), dtype=torch.uint8)
        if self.first and content is not None:
            data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        dist.broadcast(data, 0)
        return bytes(data.numpy())


@contextmanager
def alone(device: str) -> Iterator[Group]:
    """This process by itself."""
    yield Group(0, 1, torch.device(device))


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """The processes that torchrun's agent started with this one (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT)."""
    local = int(os.environ["LOCAL_RANK"])
    place = torch.device(device, local) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    # The group is never freed: freeing it waits for its threads, and one of them may wait for Python's lock, which whoever
    # frees it holds. Seen with PyTorch 2.13 as a worker that never ended, in one of some twenty short trainings.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(dist.group.WORLD))
    try:
        yield Group(dist.get_rank(), dist.get_world_size(), place)
    finally:
        dist.destroy_process_group()
