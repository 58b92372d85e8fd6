"""The network over all processes, by PyTorch's own means: DDP keeps a copy in each, FSDP2 a shard of every weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from tasks.training.neural.group import Group
from tasks.training.neural.network import Network

Tensors = dict[str, torch.Tensor]

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class Parallel:
    """A network whose gradients are those of all processes together.

    Args:
        network: equal in every process.
        group: the processes.
        how: ddp or fsdp; alike where there is one process.
        compiled: whether torch.compile makes its forward pass.
    """

    def __init__(self, network: Network, group: Group, how: Literal["ddp", "fsdp"], *, compiled: bool) -> None:
        self.module: nn.Module = network.to(group.device)
        self._group = group
        if group.world > 1 and how == "fsdp":
            mesh = init_device_mesh(group.device.type, (group.world,))
            for layer in (*network.embeddings, *network.linears()):
                fully_shard(layer, mesh=mesh)
            self.module = fully_shard(network, mesh=mesh)
        elif group.world > 1:
            devices = [group.device] if group.device.type == "cuda" else None
            self.module = DistributedDataParallel(network, device_ids=devices, forward_sync_buffers=False)
        self.forward: Callable[[torch.Tensor], torch.Tensor] = torch.compile(self.module) if compiled else self.module

    @contextmanager
    def accumulating(self, more: bool) -> Iterator[None]:
        """Gradients of a backward pass in here stay in this process when ``more`` follow in the same step."""
        if isinstance(self.module, FSDPModule):
            self.module.set_requires_gradient_sync(not more)
            yield
        elif isinstance(self.module, DistributedDataParallel) and more:
            with self.module.no_sync():
                yield
        else:
            yield

    def weights(self) -> Tensors:
        """A copy of the whole weights, in the first process; every process must ask."""
        return self._copied(get_model_state_dict(self.module, options=WHOLE))

    def load_weights(self, weights: Tensors) -> None:
        """Take the whole weights, which every process has."""
        set_model_state_dict(self.module, weights, options=StateDictOptions(full_state_dict=True))

    def moments(self, optimiser: torch.optim.Optimizer) -> Tensors:
        """A copy of what the optimiser knows of each weight, "weight/name", in the first process; every process must ask."""
        state = get_optimizer_state_dict(self.module, optimiser, options=WHOLE).get("state", {})
        return self._copied({f"{weight}/{name}": value for weight, of in state.items() for name, value in of.items()})

    def load_moments(self, optimiser: torch.optim.Optimizer, moments: Tensors) -> None:
        """Take what ``moments`` gave, which every process has."""
        groups = get_optimizer_state_dict(self.module, optimiser)["param_groups"]
        state: dict[str, Tensors] = {}
        for key, value in moments.items():
            weight, _, name = key.rpartition("/")
            state.setdefault(weight, {})[name] = value
        options = StateDictOptions(full_state_dict=True)
        whole: Any = {"state": state, "param_groups": groups}
        set_optimizer_state_dict(self.module, optimiser, whole, options=options)

    def _copied(self, tensors: Tensors) -> Tensors:
        return {name: value.detach().cpu().clone() for name, value in tensors.items()} if self._group.first else {}
