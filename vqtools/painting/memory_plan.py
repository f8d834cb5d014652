"""How much memory a painting needs, said before it starts; and what to do when there is less than that.

The networks are walked through on torch's "meta" device, where tensors have shapes and no content: what autograd would
keep for the way back is counted, not guessed. Knows networks and shapes; nothing about prompts.
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

_USABLE_FRACTION = 0.9  # of what is free; the rest is the allocator's cuttings


@dataclass(frozen=True)
class MemoryNeeds:
    """Bytes, beyond the networks' own weights."""

    decoder: int  # kept for the decoder's way back
    forgetful: int  # the same, where the decoder keeps only its blocks' inputs
    block: int  # what the hungriest block keeps when such a decoder goes it again
    working: int  # what the way back works in
    view: int  # for one cutout in the hungriest CLIP
    rest: int  # latents, pictures, the optimiser

    def peak(self, group: int, checkpoint: bool) -> int:
        """The most at any time of a step: with a group of cutouts in a CLIP, or later, on the decoder's way back."""
        kept, again = (self.forgetful, self.block) if checkpoint else (self.decoder, 0)
        return self.rest + kept + max(group * self.view, again + self.working)


@dataclass(frozen=True)
class MemoryPlan:
    """What a run needs, and what is proposed. ``free`` is None where nobody can say."""

    needs: MemoryNeeds
    free: int | None
    cutouts: int
    group: int  # proposed: cutouts that go through a CLIP at a time
    checkpoint: bool  # proposed: a forgetful decoder
    fits: bool

    @property
    def peak(self) -> int:
        """Bytes with what is proposed."""
        return self.needs.peak(self.group, self.checkpoint)

    def describe(self) -> str:
        """One line for people."""
        free = "" if self.free is None else f" of {self.free / 2**30:.1f} GB free"
        ways = [f"{self.group} cutouts at a time"] * (self.group < self.cutouts)
        ways += ["a decoder that forgets its way"] * self.checkpoint
        end = "" if self.fits else "; that is too much: choose a smaller size"
        return f"needs {self.peak / 2**30:.1f} GB{free}{' with ' + ' and '.join(ways) if ways else ''}{end}"


def plan_memory(
    settings: PaintSettings, vqgan: VQGAN, clips: Sequence[Any], machine: Machine, free: int | None = None
) -> MemoryPlan:
    """Count what a run needs. free: bytes that it may have; without, what the machine has free now."""
    free = available_memory(machine) if free is None else free
    needs = count_memory(settings, vqgan, clips, machine)
    cutouts, on = settings.cutouts, settings.checkpoint == "on"
    groups = [min(settings.group or cutouts, cutouts)]
    while groups[-1] > 1:
        groups.append(-(-groups[-1] // 2))
    # quick ways first: many tiny groups cost more time than a decoder that goes its way twice
    wishes = [(group, on) for group in groups if group >= min(8, groups[0])]
    if settings.checkpoint == "auto" and settings.drawer == "vqgan":
        wishes += [(group, True) for group in groups]
    wishes += [(group, on) for group in groups] if settings.checkpoint != "auto" else []
    room = None if free is None else free * _USABLE_FRACTION
    for group, checkpoint in wishes:
        fits = room is None or needs.peak(group, checkpoint) <= room
        if fits:
            break
    return MemoryPlan(needs, free, cutouts, group, checkpoint, fits)


def count_memory(settings: PaintSettings, vqgan: VQGAN, clips: Sequence[Any], machine: Machine) -> MemoryNeeds:
    """What a step of these settings keeps and works in."""
    width, height = settings.size
    rest = 6 * 3 * 4 * width * height
    walk = (0, 0, 0, 0)
    if settings.drawer == "vqgan":
        dim, rows, columns = vqgan.codebook.shape[1], height // vqgan.f, width // vqgan.f
        rest += 6 * 4 * dim * rows * columns
        walk = _count_saved_bytes(
            vqgan, vqgan.decode_latents, torch.empty(1, dim, rows, columns, device="meta"), _precision_factor(machine)
        )
    return MemoryNeeds(*walk, view=max((_cutout_bytes(clip, machine) for clip in clips), default=0), rest=rest)


def apply_plan(settings: PaintSettings, proposed: MemoryPlan) -> PaintSettings:
    """The settings with what the plan proposes; unchanged where they fit as they are."""
    changes: dict[str, Any] = {}
    if proposed.group < (settings.group or settings.cutouts):
        changes["group"] = proposed.group
    if proposed.checkpoint and settings.checkpoint == "auto":
        changes["checkpoint"] = "on"
    return settings.model_copy(update=changes) if changes else settings


def reduce_memory(settings: PaintSettings, position: int) -> tuple[PaintSettings, str] | None:
    """Settings that need less, after memory ran out, and what has changed in words; None if nothing is left to try."""
    group = min(settings.group or settings.cutouts, settings.cutouts)
    note = (
        f"step {position + 1} ran out of memory with {group} cutout{'s' if group > 1 else ''} at a time; going on with"
    )
    if group > 1:
        smaller = -(-group // 2)
        return settings.model_copy(update={"group": smaller}), f"{note} {smaller}"
    if settings.checkpoint != "on" and settings.drawer == "vqgan":
        return settings.model_copy(update={"checkpoint": "on"}), f"{note} a decoder that forgets its way"
    return None


def out_of_memory_message(settings: PaintSettings, position: int) -> str:
    """What to say when even the least did not fit."""
    width, height = settings.size
    return (
        f"out of memory at step {position + 1} with {width}x{height} and one cutout at a time: choose a smaller size"
        " or smaller networks; the picture is kept"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory: on a GPU, or on a CPU, where torch has no class for it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and ("can't allocate memory" in words or "out of memory" in words)


def release_memory(machine: Machine) -> None:
    """Give back what a failed step has left."""
    if machine.device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def available_memory(machine: Machine) -> int | None:
    """Bytes that are free for tensors, or None."""
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
    try:  # a Mac says how much it has, not how much is free
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return None


def _precision_factor(machine: Machine) -> float:
    """Of fp32's bytes: in half precision norms stay in fp32, convolutions' inputs don't."""
    return 1.0 if machine.precision == "fp32" else 0.75


def _cutout_bytes(clip: Any, machine: Machine) -> int:
    """Bytes for one view: what the tower keeps, and the view itself as it is cut, blurred and coloured."""
    side: int = clip.size
    views = 6 * 3 * 4 * side**2
    if not isinstance(clip, nn.Module):
        return views
    images, embed = torch.empty(2, 3, side, side, device="meta"), cast(Callable[[Tensor], Tensor], clip.embed_image)
    kept, *_ = _count_saved_bytes(
        clip, embed, images, 1.0 if machine.device.type == "cpu" else _precision_factor(machine)
    )
    return views + kept // 2


class _MethodModule(nn.Module):
    """A method of a module, as a module."""

    def __init__(self, module: nn.Module, call: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.module, self.call = module, call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


class _SavedTensorCounter:
    """What autograd keeps during one forward pass, by the block of the decoder that it is kept for."""

    def __init__(self, weights: set[int]) -> None:
        self.kept = {"": 0}
        self.inputs = self.largest = self.map = 0
        self._block = ""
        self._seen: dict[int, Any] = dict.fromkeys(weights)

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen[storage._cdata] = storage  # held, so that its address is not given to another
            self.kept[self._block] = self.kept.get(self._block, 0) + storage.nbytes()
            self.largest = max(self.largest, storage.nbytes())
        return tensor

    def watch(self, name: str, module: nn.Module) -> list[Any]:
        def enter(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            self._block = name
            self.inputs += arguments[0].nbytes

        def leave(_: nn.Module, arguments: Any, out: Tensor) -> None:
            self._block, self.map = "", max(self.map, out.nbytes)

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]


def _count_saved_bytes(
    module: nn.Module, call: Callable[[Tensor], Tensor], x: Tensor, share: float
) -> tuple[int, int, int, int]:
    """The first four of :class:`MemoryNeeds` for one call of a module's method."""
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    empty = {f"module.{name}": value.detach().to("meta") for name, value in state.items()}
    ledger = _SavedTensorCounter({value.untyped_storage()._cdata for value in empty.values()})
    blocks = [(name, child) for name, child in module.named_modules() if isinstance(child, CHECKPOINTABLE_BLOCKS)]
    hooks = [hook for name, child in blocks for hook in ledger.watch(name, child)]
    try:
        with torch.autograd.graph.saved_tensors_hooks(ledger.pack, lambda tensor: tensor), torch.enable_grad():
            functional_call(_MethodModule(module, call), empty, (x.requires_grad_(),))
    finally:
        for hook in hooks:
            hook.remove()
    block = max((size for name, size in ledger.kept.items() if name), default=0)
    working = max(3 * ledger.map, ledger.largest)  # the largest may be an attention's matrix, alone of its size
    needs = (sum(ledger.kept.values()), ledger.kept[""] + ledger.inputs, block, working)
    return tuple(int(size * share) for size in needs)  # type: ignore[return-value]
