"""The processes of one training: each has the same networks and its own share of every batch; alone by default.
Independent work, such as a grid's pictures or an animation's scenes, is dealt out to them too.

Knows tensors; nothing about what is trained. Several processes talk through accelerate.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vqtools.core.device import Machine, choose_machine


class Distributed:
    """With ``accelerator`` (accelerate's), ``size`` processes of which this is number ``rank``.

    A batch is dealt out like cards, so that the first n pictures of the whole are the first n/size of every share,
    and :meth:`whole` puts them back in order: two processes compute what one would.
    """

    def __init__(self, accelerator: Any = None) -> None:
        self.accelerator = accelerator
        self.rank: int = accelerator.process_index if accelerator else 0
        self.size: int = accelerator.num_processes if accelerator else 1

    def close(self) -> None:
        """Take leave of the other processes, which a process must do before it ends; nothing where there are none."""
        if self.accelerator is not None:
            self.accelerator.end_training()

    def wait(self) -> None:
        """Until every process has come here."""
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()

    def any_process(self, wish: bool) -> bool:
        """Whether any of the processes wishes it; all of them must ask, and all get the same answer."""
        if self.size == 1:
            return wish
        wishes = torch.tensor([float(wish)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(wishes, reduction="sum").item())

    def told(self, value: Any) -> Any:
        """What the first process says, at every process, where its disk may not reach: tensors, numbers, strings."""
        if self.size == 1:
            return value
        from accelerate.utils import broadcast_object_list

        (said,) = broadcast_object_list([value if self.rank == 0 else None])
        return said

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a batch (b, …), b a multiple of ``size``."""
        if len(batch) % self.size:
            raise ValueError(f"a batch of {len(batch)} can't be dealt to {self.size} processes evenly")
        return batch[self.rank :: self.size]

    def whole(self, share: Tensor) -> Tensor:
        """All shares (b/size, …) as one batch (b, …) in its order."""
        if self.size == 1:
            return share
        gathered = self.accelerator.gather(share.contiguous()).view(self.size, *share.shape)
        return gathered.transpose(0, 1).reshape(-1, *share.shape[1:])  # type: ignore[no-any-return]

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in place and in one message."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().float().flatten() for tensor in tensors])
        mean = self.accelerator.reduce(flat, reduction="mean")
        for tensor, part in zip(tensors, mean.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


def init_distributed(machine: Machine | None) -> Distributed:
    """Alone, or one of the processes that `accelerate launch` started."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Distributed()
    from accelerate import Accelerator

    return Distributed(Accelerator(cpu=(machine or choose_machine()).device.type == "cpu"))
