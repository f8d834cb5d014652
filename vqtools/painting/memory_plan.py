"""Plan the memory of a painting before it starts, and reduce its needs when memory runs out.

The networks are run on torch's "meta" device, where tensors have shapes but no content, so the bytes that autograd
saves for the backward pass are counted, not estimated. Knows networks and shapes; nothing about prompts.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vqtools.core.device import Machine
from vqtools.models.vqgan import VQGAN
from vqtools.painting.renderers import CHECKPOINTABLE_BLOCKS
from vqtools.painting.settings import PaintSettings

_USABLE_FRACTION = 0.9  # of the free memory; the rest is lost to the allocator's fragmentation


@dataclass(frozen=True)
class MemoryNeeds:
    """Bytes that a step needs in addition to the networks' weights."""

    decoder: int  # saved for the decoder's backward pass
    decoder_checkpointed: int  # the same with gradient checkpointing, which saves only the inputs of blocks
    largest_block: int  # saved when the largest block is recomputed in the backward pass
    workspace: int  # temporary, in the decoder's backward pass
    per_cutout: int  # for one cutout in the largest CLIP
    other: int  # latents, pictures, the optimiser

    def peak(self, group: int, checkpoint: bool) -> int:
        """The peak of a step: with a group of cutouts in a CLIP, or later, in the decoder's backward pass."""
        saved, recomputed = (self.decoder_checkpointed, self.largest_block) if checkpoint else (self.decoder, 0)
        return self.other + saved + max(group * self.per_cutout, recomputed + self.workspace)


@dataclass(frozen=True)
class MemoryPlan:
    """What a run needs, and the group size and checkpointing that are proposed for it."""

    needs: MemoryNeeds
    free: int | None  # bytes; None if unknown
    cutouts: int
    group: int  # proposed number of cutouts that go through a CLIP at a time
    checkpoint: bool  # whether gradient checkpointing is proposed
    fits: bool  # whether the proposal fits into the free memory

    @property
    def peak(self) -> int:
        """Bytes that the proposal needs."""
        return self.needs.peak(self.group, self.checkpoint)

    def describe(self) -> str:
        """One line for users: `needs 3.2 GB of 4.0 GB free with 4 cutouts at a time`."""
        free = "" if self.free is None else f" of {self.free / 2**30:.1f} GB free"
        measures = [f"{self.group} cutouts at a time"] * (self.group < self.cutouts)
        measures += ["gradient checkpointing"] * self.checkpoint
        end = "" if self.fits else "; that is too much: choose a smaller size"
        return f"needs {self.peak / 2**30:.1f} GB{free}{' with ' + ' and '.join(measures) if measures else ''}{end}"


def plan_memory(
    settings: PaintSettings, vqgan: VQGAN, clips: Sequence[Any], machine: Machine, free: int | None = None
) -> MemoryPlan:
    """Count what a run needs and propose how to make it fit.

    free: bytes that it may use; by default what the machine has free now.
    """
    free = available_memory(machine) if free is None else free
    needs = count_memory(settings, vqgan, clips, machine)
    cutouts, on = settings.cutouts, settings.checkpoint == "on"
    groups = [min(settings.group or cutouts, cutouts)]
    while groups[-1] > 1:
        groups.append(-(-groups[-1] // 2))
    # the fastest first: groups of fewer than 8 cutouts cost more time than checkpointing
    options = [(group, on) for group in groups if group >= min(8, groups[0])]
    if settings.checkpoint == "auto" and settings.drawer == "vqgan":
        options += [(group, True) for group in groups]
    options += [(group, on) for group in groups] if settings.checkpoint != "auto" else []
    usable = None if free is None else free * _USABLE_FRACTION
    for group, checkpoint in options:
        fits = usable is None or needs.peak(group, checkpoint) <= usable
        if fits:
            break
    return MemoryPlan(needs, free, cutouts, group, checkpoint, fits)


def count_memory(settings: PaintSettings, vqgan: VQGAN, clips: Sequence[Any], machine: Machine) -> MemoryNeeds:
    """Count what one step with these settings needs."""
    width, height = settings.size
    other = 6 * 3 * 4 * width * height  # six copies of the picture in fp32
    decoder = (0, 0, 0, 0)
    if settings.drawer == "vqgan":
        dim, rows, columns = vqgan.codebook.shape[1], height // vqgan.f, width // vqgan.f
        other += 6 * 4 * dim * rows * columns
        decoder = _count_saved_bytes(
            vqgan, vqgan.decode_latents, torch.empty(1, dim, rows, columns, device="meta"), _precision_factor(machine)
        )
    per_cutout = max((_cutout_bytes(clip, machine) for clip in clips), default=0)
    return MemoryNeeds(*decoder, per_cutout=per_cutout, other=other)


def apply_plan(settings: PaintSettings, proposed: MemoryPlan) -> PaintSettings:
    """The settings with what the plan proposes; unchanged if they fit as they are."""
    changes: dict[str, Any] = {}
    if proposed.group < (settings.group or settings.cutouts):
        changes["group"] = proposed.group
    if proposed.checkpoint and settings.checkpoint == "auto":
        changes["checkpoint"] = "on"
    return settings.model_copy(update=changes) if changes else settings


def reduce_memory(settings: PaintSettings, position: int) -> tuple[PaintSettings, str] | None:
    """Settings that need less memory and a note that says what changed; None if nothing is left to reduce."""
    group = min(settings.group or settings.cutouts, settings.cutouts)
    cutouts = f"{group} cutout{'s' if group > 1 else ''}"
    note = f"step {position + 1} ran out of memory with {cutouts} at a time; continuing with"
    if group > 1:
        smaller = -(-group // 2)
        return settings.model_copy(update={"group": smaller}), f"{note} {smaller}"
    if settings.checkpoint != "on" and settings.drawer == "vqgan":
        return settings.model_copy(update={"checkpoint": "on"}), f"{note} gradient checkpointing"
    return None


def out_of_memory_message(settings: PaintSettings, position: int) -> str:
    """The error message for a step that runs out of memory even with one cutout at a time."""
    width, height = settings.size
    return (
        f"out of memory at step {position + 1} with {width}x{height} and one cutout at a time: choose a smaller size"
        " or smaller networks; the picture is kept"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out: on a GPU, or on a CPU, where torch has no error class for it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and ("can't allocate memory" in message or "out of memory" in message)


def release_memory(machine: Machine) -> None:
    """Release the memory that a failed step has left allocated."""
    if machine.device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def available_memory(machine: Machine) -> int | None:
    """Bytes that are free for tensors, or None if unknown."""
    if machine.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(machine.device)
        reserved = torch.cuda.memory_reserved(machine.device)
        limit = total * torch.cuda.get_per_process_memory_fraction(machine.device) - reserved
        return int(min(free, limit)) + reserved - torch.cuda.memory_allocated(machine.device)
    if machine.device.type != "cpu":
        return None
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:  # macOS states the installed memory only, not what is free
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return None


def _precision_factor(machine: Machine) -> float:
    """Fraction of fp32's bytes: in half precision norms stay in fp32, while the inputs of convolutions do not."""
    return 1.0 if machine.precision == "fp32" else 0.75


def _cutout_bytes(clip: Any, machine: Machine) -> int:
    """Bytes for one cutout: what the CLIP saves, and the cutout itself while it is cropped, blurred and coloured."""
    side: int = clip.size
    cutout = 6 * 3 * 4 * side**2
    if not isinstance(clip, nn.Module):
        return cutout
    images, embed = torch.empty(2, 3, side, side, device="meta"), cast(Callable[[Tensor], Tensor], clip.embed_image)
    saved, *_ = _count_saved_bytes(
        clip, embed, images, 1.0 if machine.device.type == "cpu" else _precision_factor(machine)
    )
    return cutout + saved // 2


class _MethodModule(nn.Module):
    """A module whose forward() is a method of another module, as functional_call() needs it."""

    def __init__(self, module: nn.Module, call: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.module, self.call = module, call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


class _SavedTensorCounter:
    """Counts the bytes that autograd saves during a forward pass, by the block of the decoder; "" is outside of blocks.

    weights: storages, by address, that are not counted.
    """

    def __init__(self, weights: set[int]) -> None:
        self.saved = {"": 0}
        self.block_inputs = self.largest = self.largest_output = 0
        self._block = ""
        self._seen: dict[int, Any] = dict.fromkeys(weights)

    def pack(self, tensor: Tensor) -> Tensor:
        """Count a saved tensor: a pack hook of saved_tensors_hooks()."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen[storage._cdata] = storage  # kept alive, so that its address is not reused
            self.saved[self._block] = self.saved.get(self._block, 0) + storage.nbytes()
            self.largest = max(self.largest, storage.nbytes())
        return tensor

    def watch(self, name: str, module: nn.Module) -> list[Any]:
        """Count what is saved inside a block under its name; returns the handles of the hooks."""

        def enter(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            self._block = name
            self.block_inputs += arguments[0].nbytes

        def leave(_: nn.Module, __: Any, output: Tensor) -> None:
            self._block, self.largest_output = "", max(self.largest_output, output.nbytes)

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]


def _count_saved_bytes(
    module: nn.Module, call: Callable[[Tensor], Tensor], x: Tensor, factor: float
) -> tuple[int, int, int, int]:
    """The first four fields of :class:`MemoryNeeds` for one call of a module's method, times ``factor``."""
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    empty = {f"module.{name}": value.detach().to("meta") for name, value in state.items()}
    counter = _SavedTensorCounter({value.untyped_storage()._cdata for value in empty.values()})
    blocks = [(name, child) for name, child in module.named_modules() if isinstance(child, CHECKPOINTABLE_BLOCKS)]
    hooks = [hook for name, child in blocks for hook in counter.watch(name, child)]
    try:
        with torch.autograd.graph.saved_tensors_hooks(counter.pack, lambda tensor: tensor), torch.enable_grad():
            functional_call(_MethodModule(module, call), empty, (x.requires_grad_(),))
    finally:
        for hook in hooks:
            hook.remove()
    largest_block = max((size for name, size in counter.saved.items() if name), default=0)
    workspace = max(3 * counter.largest_output, counter.largest)  # the largest may be a single attention matrix
    checkpointed = counter.saved[""] + counter.block_inputs
    sizes = (sum(counter.saved.values()), checkpointed, largest_block, workspace)
    return tuple(int(size * factor) for size in sizes)  # type: ignore[return-value]
