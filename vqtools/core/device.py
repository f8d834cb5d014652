"""The choice of device, precision and threads.

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

Precision = Literal["fp32", "bf16", "fp16"]
MAX_THREADS = 1024
_DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Machine:
    """A device, a precision and a number of CPU threads. fp16 needs loss scaling; ``threads`` only matters on CPUs."""

    device: torch.device
    precision: Precision
    threads: int

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that :meth:`autocast` computes in."""
        return _DTYPES[self.precision]

    def autocast(self) -> AbstractContextManager[None]:
        """Return the autocast context for networks. Disable it around warps of images, which bf16 corrupts."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return cast(AbstractContextManager[None], torch.autocast(self.device.type, dtype=self.dtype))

    @contextlib.contextmanager
    def autocast_except_strided_convs(self) -> Iterator[None]:
        """Enter :meth:`autocast`, but keep strided depthwise convolutions on the CPU in fp32."""
        with self.autocast(), _Float32StridedConvs() if self.device.type == "cpu" else contextlib.nullcontext():
            yield

    def describe(self) -> str:
        """Return one line for users: ``CPU, 2 threads, fp32``."""
        if self.device.type == "cuda":
            card = torch.cuda.get_device_properties(self.device)
            return f"{card.name}, {card.total_memory / 2**30:.0f} GB, {self.precision}"
        if self.device.type == "mps":
            return f"Apple GPU (MPS), {self.precision}"
        return f"CPU, {self.threads} thread{'s' if self.threads != 1 else ''}, {self.precision}"


class _Float32StridedConvs(TorchFunctionMode):
    """Runs grouped convolutions with a stride in fp32 under CPU autocast, without changing the network.

    In bf16 their backward pass is 30× slower than in fp32; all other convolutions are no slower in bf16.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # conv2d(input, weight, bias, stride, padding, dilation, groups)
        if func is torch.conv2d and len(args) > 6 and args[6] > 1 and args[3] not in (1, (1, 1)):
            with torch.autocast("cpu", enabled=False):
                return func(args[0].float(), *args[1:], **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def choose_machine(device: str | None = None, precision: str | None = None, threads: int | None = None) -> Machine:
    """Return the machine to compute on: the fastest device and precision, unless they are given ("auto" is None).

    ``threads`` sets torch's number of threads for this process; results are only reproducible with the same number,
    because it decides the order in which sums are rounded. Raises UserError for what this machine lacks.
    """
    resolved = _resolve_device(device)
    if threads is not None:
        if threads < 1:
            raise UserError(f"threads {threads}: must be at least 1")
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)
    return Machine(resolved, _resolve_precision(resolved, precision), torch.get_num_threads())


def recorded_threads(record: Mapping[str, Any]) -> int | None:
    """Return the number of CPU threads that a record states, or None if it states none in [1, MAX_THREADS].

    Records come from untrusted files, so the value can be anything.
    """
    threads = record.get("threads")
    return threads if isinstance(threads, int) and 1 <= threads <= MAX_THREADS else None


def memory_in_use() -> int:
    """Return the bytes that this process has reserved on the GPU if there is one, else its resident memory in bytes."""
    if torch.cuda.is_available():
        return torch.cuda.memory_reserved()
    return int(psutil.Process().memory_info().rss)


def available_devices() -> list[str]:
    """Return the device types of this machine, the fastest first."""
    kinds = ["cuda"] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        kinds.append("mps")
    return [*kinds, "cpu"]


def _resolve_device(requested: str | None) -> torch.device:
    types = available_devices()
    if requested in (None, "", "auto"):
        return torch.device(types[0])
    try:
        device = torch.device(str(requested))
    except RuntimeError:
        raise UserError(f"device {requested!r} is unknown{did_you_mean(str(requested), types)}") from None
    if device.type not in types:
        raise UserError(f"device {requested!r} is not available here; there is {', '.join(types)}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {requested!r}: this machine has {torch.cuda.device_count()}, counted from cuda:0")
    return device


def _resolve_precision(device: torch.device, requested: str | None) -> Precision:
    if requested in (None, "", "auto"):
        if device.type == "cuda":
            # not is_bf16_supported(), which is true on a T4, where bf16 is emulated and slow
            return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
        return "bf16" if device.type == "cpu" and _bf16_is_faster_on_cpu() else "fp32"
    if requested not in get_args(Precision):
        choices = ["auto", *get_args(Precision)]
        raise UserError(f"precision {requested!r} is unknown{did_you_mean(str(requested), choices)}")
    if requested == "fp16" and device.type == "cpu":
        raise UserError("precision 'fp16' is for GPUs; on the CPU use fp32 or auto")
    if requested != "fp32" and device.type == "mps":
        raise UserError(f"precision {requested!r} does not work on Apple's MPS; use fp32 or auto")
    return cast(Precision, requested)


@functools.cache
def _bf16_is_faster_on_cpu() -> bool:
    """Measure, once per process, whether a convolution is at least 20 % faster in bf16 than in fp32.

    CPUs of the same family differ: without bf16 instructions, bf16 is 40 times slower. The measurement draws no random
    numbers and takes a few hundredths of a second.
    """
    try:
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
    except (AttributeError, RuntimeError):
        return False
    image, weight = torch.ones(1, 64, 48, 48), torch.ones(64, 64, 3, 3)
    fp32_seconds = bf16_seconds = float("inf")
    for attempt in range(7):  # alternately, and the minimum of each: other work on the machine must not decide
        seconds = _conv_seconds(image, weight), _conv_seconds(image.bfloat16(), weight.bfloat16())
        if attempt:  # the first attempt includes the compilation of the kernels
            fp32_seconds, bf16_seconds = min(fp32_seconds, seconds[0]), min(bf16_seconds, seconds[1])
            if bf16_seconds > fp32_seconds * 8:
                return False
    return bf16_seconds < fp32_seconds * 0.8


def _conv_seconds(image: torch.Tensor, weight: torch.Tensor) -> float:
    """Return processor time, not wall time: on a busy machine a run and its resumption must choose the same."""
    with torch.inference_mode():
        started = time.process_time()
        torch.nn.functional.conv2d(image, weight, padding=1)
        return time.process_time() - started
