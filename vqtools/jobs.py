"""Drive anything with step(): stop, pause, show, save, resume.

Knows steps, scalars and files of state; nothing about what a job makes.
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vqtools.atomic import atomic_write
from vqtools.settings import UserError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

_PREVIEW_TIME_FACTOR = 5  # a preview may cost a fifth of the time, not more


class Job(Protocol):
    """Long work in steps. The state is complete after each step, random generators included."""

    @property
    def position(self) -> int:
        """Steps done."""
        ...

    @property
    def total(self) -> int:
        """Steps in all."""
        ...

    def step(self) -> dict[str, float]:
        """Do one unit of work; report scalars, "loss" among them where there is one."""
        ...

    def preview(self) -> Image | None:
        """The picture as it stands, or None where there is none."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that a job of the same settings needs to go on from here."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        ...


@dataclass(frozen=True)
class StepReport:
    """One step done. `image` is there only when it was time to show one; `seconds` since the loop began."""

    position: int
    total: int
    scalars: dict[str, float]
    image: Image | None
    seconds: float


def iterate_steps(
    job: Job,
    *,
    previews: bool = True,
    show_seconds: float = 0.2,
    stop: Callable[[], bool] | None = None,
    save: str | Path | None = None,
    save_every_seconds: float = 60.0,
) -> Iterator[StepReport]:
    """The only loop: step until the end or until `stop()`, one report a step.

    Saves the state now and then, and at the end of the loop however it ends, unless a step was cut short.
    """
    started = saved = time.monotonic()
    due = started  # the first step is shown at once
    whole = True
    try:
        while job.position < job.total and not (stop is not None and stop()):
            whole = False
            scalars = job.step()
            whole = True
            now = time.monotonic()
            image = None
            if previews and (now >= due or job.position >= job.total):
                image = job.preview()
                shown = time.monotonic()
                due = shown + max(show_seconds, (_PREVIEW_TIME_FACTOR - 1) * (shown - now))
            if save is not None and now - saved >= save_every_seconds:
                save_state(save, job.state_dict())
                saved = now
            yield StepReport(job.position, job.total, scalars, image, time.monotonic() - started)
    finally:
        if save is not None and whole:
            save_state(save, job.state_dict())


def run_job(
    job: Job,
    *,
    show: Callable[[Image, StepReport], None] | None = None,
    show_seconds: float = 0.2,
    stop: Callable[[], bool] | None = None,
    agree: Callable[[bool], bool] = bool,
    progress: bool = True,
    label: str = "",
    save: str | Path | None = None,
    save_every_seconds: float = 60.0,
) -> bool:
    """Run a job with a progress bar. True when the end was reached, False when stopped.

    The first Ctrl-C lets the step under way finish; the second stops at once, with the state last saved.
    agree: is asked before every step whether to stop, with this process's wish: processes that work together must stop
        at the same step.
    """
    from tqdm.auto import tqdm

    with _catch_interrupts() as interrupted:
        loop = iterate_steps(
            job,
            previews=show is not None,
            show_seconds=show_seconds,
            stop=lambda: agree(interrupted.is_set() or (stop is not None and stop())),
            save=save,
            save_every_seconds=save_every_seconds,
        )
        try:
            with (
                contextlib.closing(loop),  # type: ignore[type-var]
                tqdm(total=job.total, initial=job.position, desc=label or None, disable=not progress) as bar,
            ):
                for report in loop:
                    bar.set_postfix_str(_progress_text(report.scalars), refresh=False)
                    bar.update(report.position - bar.n)
                    if show is not None and report.image is not None:
                        show(report.image, report)
        except KeyboardInterrupt:
            return False
    return job.position >= job.total


def _progress_text(scalars: dict[str, float]) -> str:
    """The loss where there is one (its parts, named by prompts, would not fit), else everything."""
    shown = {"loss": scalars["loss"]} if "loss" in scalars else scalars
    return ", ".join(f"{name}={value:.4g}" for name, value in shown.items())


@contextlib.contextmanager
def _catch_interrupts() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that no step is cut in half; only the main thread can."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def first(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = signal.signal(signal.SIGINT, first)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def save_state(path: str | Path, state: dict[str, Any]) -> Path:
    """Write a nested state of tensors, numbers, strings and None to one safetensors file, atomically."""
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    tree = json.dumps(_pack_tree(state, "", tensors))
    path = Path(path)
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "vqtools-state-1", "state": tree})
    return path


def load_state(path: str | Path) -> dict[str, Any]:
    """Read what `save_state` wrote; tensors on the CPU. UserError for a file that is missing, broken or foreign."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise UserError(f"{path} is not there")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != "vqtools-state-1":
                raise UserError(f"{path} holds no saved run of vqtools")
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        state = _unpack_tree(json.loads(metadata["state"]), tensors)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is broken and cannot be resumed ({shorten_error(error)})") from None
    if not isinstance(state, dict):
        raise UserError(f"{path} holds no saved run of vqtools")
    return state


def shorten_error(error: BaseException) -> str:
    """An exception's first line, at most 120 characters."""
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__)[:120]


def _pack_tree(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Plain JSON in which {"$": kind, ...} stands for what JSON has not; tensors are put aside under their path."""
    import torch

    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor):
        # a copy: parts of one storage may not share a file
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"$": "tensor", "name": name}
    if isinstance(value, list | tuple):
        items = [_pack_tree(one, f"{name}.{index}", tensors) for index, one in enumerate(value)]
        return items if isinstance(value, list) else {"$": "tuple", "items": items}
    if isinstance(value, dict):
        if all(isinstance(key, str) and key != "$" for key in value):
            return {key: _pack_tree(one, f"{name}.{key}", tensors) for key, one in value.items()}
        if all(isinstance(key, int | str) and not isinstance(key, bool) for key in value):
            return {
                "$": "dict",
                "items": [[key, _pack_tree(one, f"{name}.{key!r}", tensors)] for key, one in value.items()],
            }
    raise TypeError(f"state{name} is a {type(value).__name__}; only tensors, numbers, strings and None are saved")


def _unpack_tree(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack_tree(one, tensors) for one in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("$")
    if kind is None:
        return {key: _unpack_tree(one, tensors) for key, one in value.items()}
    if kind == "tensor":
        return tensors[value["name"]]
    if kind == "tuple":
        return tuple(_unpack_tree(one, tensors) for one in value["items"])
    if kind == "dict":
        return {key: _unpack_tree(one, tensors) for key, one in value["items"]}
    raise ValueError(f"unknown entry {kind!r}")
