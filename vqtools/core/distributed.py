"""Collective operations among the processes of one run; the identity where there is only one process.

Training splits batches over the processes, and independent work (the pictures of a grid, the scenes of an animation) is
divided among them. Works on tensors; knows nothing about what is computed. Communicates through accelerate.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vqtools.core.device import Machine, choose_machine


class Distributed:
    """A group of ``size`` processes, of which this one has number ``rank``.

    accelerator: accelerate's ``Accelerator``; None for a single process.

    :meth:`shard` strides through a batch, so that the first n images of the batch are the first n/size images of every
    shard; :meth:`gather` restores the order. Two processes therefore compute what one process would.
    """

    def __init__(self, accelerator: Any = None) -> None:
        self.accelerator = accelerator
        self.rank: int = accelerator.process_index if accelerator else 0
        self.size: int = accelerator.num_processes if accelerator else 1

    def close(self) -> None:
        """Leave the process group. Every process must call this before it ends."""
        if self.accelerator is not None:
            self.accelerator.end_training()

    def barrier(self) -> None:
        """Wait until every process has called this method."""
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()

    def any_process(self, flag: bool) -> bool:
        """Return whether ``flag`` is true in any process. Every process must call this; all get the same answer."""
        if self.size == 1:
            return flag
        count = torch.tensor([float(flag)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(count, reduction="sum").item())

    def broadcast(self, value: Any) -> Any:
        """Return the value of process 0 in every process: tensors, numbers, strings and containers of them."""
        if self.size == 1:
            return value
        from accelerate.utils import broadcast_object_list

        (received,) = broadcast_object_list([value if self.rank == 0 else None])
        return received

    def shard(self, batch: Tensor) -> Tensor:
        """Return this process's items of a batch (b, …): (b/size, …). Raises ValueError unless size divides b."""
        if len(batch) % self.size:
            raise ValueError(f"a batch of {len(batch)} cannot be divided evenly among {self.size} processes")
        return batch[self.rank :: self.size]

    def gather(self, shard: Tensor) -> Tensor:
        """Return the shards (b/size, …) of all processes as one batch (b, …), in the order of the batch."""
        if self.size == 1:
            return shard
        gathered = self.accelerator.gather(shard.contiguous()).view(self.size, *shard.shape)
        # process r holds items r, r + size, r + 2 size, … of the batch
        return gathered.transpose(0, 1).reshape(-1, *shard.shape[1:])  # type: ignore[no-any-return]

    @torch.no_grad()
    def all_reduce_mean(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor in place by its mean over the processes, in one message."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().float().flatten() for tensor in tensors])
        mean = self.accelerator.reduce(flat, reduction="mean")
        for tensor, part in zip(tensors, mean.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


def init_distributed(machine: Machine | None) -> Distributed:
    """Join the process group that ``accelerate launch`` started, or return a group of one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Distributed()
    from accelerate import Accelerator

    return Distributed(Accelerator(cpu=(machine or choose_machine()).device.type == "cpu"))
