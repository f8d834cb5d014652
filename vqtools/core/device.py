"""The one place that chooses device and precision.

Knows what the machine can do; nothing about what will be computed on it.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import psutil
import torch
from torch.overrides import TorchFunctionMode

from vqtools.core.errors import UserError, did_you_mean

MAX_THREADS = 1024

Precision = Literal["fp32", "bf16", "fp16"]
_DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Machine:
    """Where and how exactly to compute. fp16 needs a scaled loss; `threads` counts on the CPU alone."""

    device: torch.device
    precision: Precision
    threads: int

    @property
    def dtype(self) -> torch.dtype:
        """The type that autocast computes in."""
        return _DTYPES[self.precision]

    def autocast(self) -> AbstractContextManager[None]:
        """Mixed precision for networks. Keep warps out of it: use `exact()`."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return cast(AbstractContextManager[None], torch.autocast(self.device.type, dtype=self.dtype))

    @contextlib.contextmanager
    def autocast_except_strided_convs(self) -> Iterator[None]:
        """`autocast()` but for strided depthwise convolutions: their gradient crawls in bf16 on a CPU."""
        with self.autocast(), _Float32StridedConvs() if self.device.type == "cpu" else contextlib.nullcontext():
            yield

    def full_precision(self) -> AbstractContextManager[None]:
        """Full precision inside `autocast()`: bf16 corrupts warps."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return cast(AbstractContextManager[None], torch.autocast(self.device.type, enabled=False))

    def describe(self) -> str:
        """One line for people: `CPU, 2 threads, fp32`."""
        if self.device.type == "cuda":
            card = torch.cuda.get_device_properties(self.device)
            return f"{card.name}, {card.total_memory / 2**30:.0f} GB, {self.precision}"
        if self.device.type == "mps":
            return f"Apple GPU (MPS), {self.precision}"
        return f"CPU, {self.threads} thread{'s' if self.threads != 1 else ''}, {self.precision}"


class _Float32StridedConvs(TorchFunctionMode):
    """Takes convolutions in groups that step over pixels out of autocast, without touching their network.

    In bf16 their way back takes thirty times as long as in fp32; all other convolutions are no slower in bf16.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.conv2d and len(args) > 6 and args[6] > 1 and args[3] not in (1, (1, 1)):
            with torch.autocast("cpu", enabled=False):
                return func(args[0].float(), *args[1:], **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def choose_machine(device: str | None = None, precision: str | None = None, threads: int | None = None) -> Machine:
    """The fastest that is there, or what was asked ("auto" and None ask for nothing).

    `threads` sets torch's number for this process: another number rounds sums otherwise.
    """
    place = _resolve_device(device)
    if threads is not None:
        if threads < 1:
            raise UserError(f"threads {threads}: must be at least 1")
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)
    return Machine(place, _resolve_precision(place, precision), torch.get_num_threads())


def recorded_threads(record: Mapping[str, Any]) -> int | None:
    """The number of CPU threads that a record states, or None if it states none in [1, MAX_THREADS].

    Records come from files of strangers, so the value can be anything.
    """
    threads = record.get("threads")
    return threads if isinstance(threads, int) and 1 <= threads <= MAX_THREADS else None


def memory_in_use() -> int:
    """Bytes that this process holds: on the GPU where there is one, else of the machine's memory."""
    if torch.cuda.is_available():
        return torch.cuda.memory_reserved()
    return int(psutil.Process().memory_info().rss)


def available_devices() -> list[str]:
    """Kinds of device that are here, the fastest first."""
    kinds = ["cuda"] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        kinds.append("mps")
    return [*kinds, "cpu"]


def _resolve_device(asked: str | None) -> torch.device:
    kinds = available_devices()
    if asked in (None, "", "auto"):
        return torch.device(kinds[0])
    try:
        place = torch.device(str(asked))
    except RuntimeError:
        raise UserError(f"device {asked!r} is unknown{did_you_mean(str(asked), kinds)}") from None
    if place.type not in kinds:
        raise UserError(f"device {asked!r} is not available here; there is {', '.join(kinds)}")
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {asked!r}: this machine has {torch.cuda.device_count()}, counted from cuda:0")
    return place


def _resolve_precision(place: torch.device, asked: str | None) -> Precision:
    if asked in (None, "", "auto"):
        if place.type == "cuda":
            # a T4 says is_bf16_supported() and emulates it, slowly: the capability tells the truth
            return "bf16" if torch.cuda.get_device_capability(place) >= (8, 0) else "fp16"
        return "bf16" if place.type == "cpu" and _bf16_is_faster_on_cpu() else "fp32"
    if asked not in get_args(Precision):
        raise UserError(f"precision {asked!r} is unknown{did_you_mean(str(asked), ['auto', *get_args(Precision)])}")
    if asked == "fp16" and place.type == "cpu":
        raise UserError("precision 'fp16' is for GPUs; on the CPU use fp32 or auto")
    if asked != "fp32" and place.type == "mps":
        raise UserError(f"precision {asked!r} is not for Apple's MPS; use fp32 or auto")
    return cast(Precision, asked)


@functools.cache
def _bf16_is_faster_on_cpu() -> bool:
    """Machines of one kind differ: without the instructions bf16 is 40 times slower. Asks, then tries; once a process.

    The trial draws no random numbers and takes a few hundredths of a second.
    """
    try:
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
    except (AttributeError, RuntimeError):
        return False
    image, weight = torch.ones(1, 64, 48, 48), torch.ones(64, 64, 3, 3)
    exact = narrow = float("inf")
    for attempt in range(7):  # in turns, the least of each: other work on the machine must not decide
        times = _conv_seconds(image, weight), _conv_seconds(image.bfloat16(), weight.bfloat16())
        if attempt:  # the first also pays for compiling the kernels
            exact, narrow = min(exact, times[0]), min(narrow, times[1])
            if narrow > exact * 8:
                return False
    return narrow < exact * 0.8


def _conv_seconds(image: torch.Tensor, weight: torch.Tensor) -> float:
    """Processor time, not the clock's: on a busy machine a run and its resumption must choose the same."""
    with torch.inference_mode():
        started = time.process_time()
        torch.nn.functional.conv2d(image, weight, padding=1)
        return time.process_time() - started
