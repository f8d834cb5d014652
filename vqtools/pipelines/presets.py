"""Presets as time and size: what draft, normal, better and best mean on this machine, measured.

A benchmark of about ten seconds paints a few steps at several sizes and numbers of cutouts; its result is stored in the
models' folder, by machine and networks. Knows networks by name and painting; nothing about flags or panels.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from vqtools.core.device import Machine, choose_machine
from vqtools.core.errors import UserError
from vqtools.core.files import write_text
from vqtools.core.paths import home_folder
from vqtools.core.settings import quick_requested
from vqtools.models.vqgan import VQGAN
from vqtools.painting.memory_plan import plan_memory
from vqtools.painting.painter import Painter
from vqtools.painting.parsers import parse_clips
from vqtools.painting.settings import PRESETS, PaintSettings
from vqtools.weights.load import load_clip, load_vqgan, resolve_path
from vqtools.weights.model_file import file_sha256

TIME_BUDGETS = {"draft": 10.0, "normal": 30.0, "better": 120.0, "best": 480.0}
"""Seconds that guidance may take for one picture."""

MAX_RESOLUTION_FACTORS = {"draft": 2, "normal": 2, "better": 3, "best": 4}
"""The longest side of a picture, as a multiple of the resolution that the VQGAN was trained at.

Beyond that, one object falls apart into many small ones, as the starter's apple, cat and whale showed. More steps with
more cutouts carry a larger picture.
"""

BENCHMARK_SECONDS = 10.0
"""How long the benchmark takes."""

_CANDIDATE_SIDES = (128, 192, 256, 288, 320, 384, 448, 512, 640, 768, 1024, 1280, 1536, 2048)
_BENCHMARK_CASES = (((128, 128), 4), ((128, 128), 16), ((256, 256), 4))  # (size, cutouts): three for three unknowns
_MAX_ROUNDS = 200
_NETWORK_FIELDS = ("vqgan", "clip", "precision", "clip_precision")

Notify = Callable[[str], None]
"""Takes one line about progress, to print or show."""


@dataclass(frozen=True)
class StepTimeModel:
    """The time of a step: ``base + pixel · pixels + cutout · cutouts``, in seconds.

    steps: how many were timed. machine: its description. Field names are the keys of presets.json.
    """

    base: float
    pixel: float
    cutout: float
    steps: int
    machine: str

    def seconds_per_step(self, size: tuple[int, int], cutouts: int) -> float:
        """The seconds that a step takes at a size in pixels, with so many cutouts."""
        return self.base + self.pixel * size[0] * size[1] + self.cutout * cutouts

    def describe(self) -> str:
        """One line for people: the machine, its speed at a common size, and the number of steps timed."""
        rate = 1 / self.seconds_per_step((256, 256), 8)
        return f"{self.machine}: {rate:.1f} steps/s at 256x256 with 8 cutouts, from {self.steps} timed steps"


@dataclass(frozen=True)
class Preset:
    """What a preset's name stands for on this machine. seconds: the expected time of guidance."""

    name: str
    size: tuple[int, int]
    iterations: int
    cutouts: int
    seconds: float

    def describe(self) -> str:
        """One line for people, as in `normal: 192x192, 100 iterations, 8 cutouts, about 14 s`."""
        duration = f"{self.seconds:.0f} s" if self.seconds < 100 else f"{self.seconds / 60:.0f} min"
        size = f"{self.size[0]}x{self.size[1]}"
        return f"{self.name}: {size}, {self.iterations} iterations, {self.cutouts} cutouts, about {duration}"

    @property
    def fields(self) -> dict[str, Any]:
        """The settings that the preset sets, by name."""
        return {"size": self.size, "iterations": self.iterations, "cutouts": self.cutouts}


def measure_presets(
    settings: PaintSettings | None = None, *, again: bool = False, notify: Notify = lambda _line: None
) -> tuple[StepTimeModel, dict[str, Preset]]:
    """Return the speed of this machine, and what each preset means on it, by name.

    Runs a benchmark of ten seconds unless its result is stored. settings: their networks, precision and aspect ratio
    count. again: measure even if the result is stored. notify: called before the benchmark.
    """
    settings = settings or PaintSettings()
    machine = choose_machine(precision=settings.precision)
    vqgan = load_vqgan(settings.vqgan)
    key = _cache_key(settings, machine)
    speed = None if again else _load_cache().get(key)
    if speed is None:
        notify(f"measuring the speed of this machine for {BENCHMARK_SECONDS:.0f} seconds; the result is stored")
        speed = run_benchmark(settings, machine)
        _save_to_cache(key, speed)
    clips = [load_clip(name) for name in parse_clips(settings.clip)]
    return speed, {name: _fit_preset(name, speed, settings, vqgan, clips, machine) for name in PRESETS}


def apply_preset(fields: Mapping[str, Any], *, notify: Notify = lambda _line: None) -> dict[str, Any]:
    """Return settings completed by what their preset means on this machine; those that are given stay.

    Without a preset, or with size, iterations and cutouts given, they are returned unchanged and nothing is measured.
    """
    fields = dict(fields)
    name = fields.get("preset")
    if name not in PRESETS or quick_requested() or {"size", "iterations", "cutouts"} <= fields.keys():
        return fields
    relevant = {key: value for key, value in fields.items() if key in (*_NETWORK_FIELDS, "drawer", "size")}
    preset = measure_presets(PaintSettings.parse(relevant), notify=notify)[1][name]
    return {**preset.fields, **fields}


def run_benchmark(settings: PaintSettings, machine: Machine, seconds: float = BENCHMARK_SECONDS) -> StepTimeModel:
    """Time steps of several sizes and numbers of cutouts for about ``seconds``.

    The cases take turns, so that other load on the machine affects all of them alike.
    """
    vqgan = load_vqgan(settings.vqgan)
    clips = {load_clip(name): weight for name, weight in parse_clips(settings.clip).items()}
    plain = {name: getattr(settings, name) for name in (*_NETWORK_FIELDS, "drawer")}
    painters = []
    for size, cutouts in _BENCHMARK_CASES:
        sides = _round_to_multiple(size, 1 if settings.drawer == "pixels" else vqgan.f)
        case = PaintSettings.parse({**plain, "size": sides, "cutouts": cutouts, "seed": 0, "iterations": 100_000})
        painters.append(Painter(case, vqgan, list(clips), clip_weights=list(clips.values()), machine=machine))
    times: list[list[float]] = [[] for _ in painters]
    started = time.monotonic()
    while not times[0] or (time.monotonic() - started < seconds and len(times[0]) < _MAX_ROUNDS):
        for painter, taken in zip(painters, times, strict=True):
            if painter.position == 0:
                painter.step()  # not timed: the first step also compiles kernels and allocates memory
            step_started = time.perf_counter()
            painter.step()
            _synchronize(machine)
            taken.append(time.perf_counter() - step_started)
    few, many, large = (statistics.median(taken) for taken in times)
    return _fit_step_time(few, many, large, [painter.settings for painter in painters], len(times[0]), machine)


def cache_file() -> Path:
    """The file that holds the results of benchmarks."""
    return home_folder() / "presets.json"


def _fit_step_time(
    few: float, many: float, large: float, cases: list[PaintSettings], rounds: int, machine: Machine
) -> StepTimeModel:
    """Solve for the three unknowns of a :class:`StepTimeModel` from the seconds of the three benchmark cases.

    On a busy machine a difference of times can be negative; the unknowns are therefore clamped to at least 0.
    """
    small, _, big = (case.size[0] * case.size[1] for case in cases)
    cutout = max(0.0, (many - few) / (cases[1].cutouts - cases[0].cutouts))
    pixel = max(0.0, (large - few) / (big - small))
    base = max(0.0, few - pixel * small - cutout * cases[0].cutouts)
    return StepTimeModel(base, pixel, cutout, 3 * rounds, machine.describe())


def _fit_preset(
    name: str, speed: StepTimeModel, settings: PaintSettings, vqgan: VQGAN, clips: list[Any], machine: Machine
) -> Preset:
    """The largest picture within the preset's limits of resolution, time and memory; else the smallest there is."""
    steps, cutouts = PRESETS[name]["iterations"], PRESETS[name]["cutouts"]
    longest = max(MAX_RESOLUTION_FACTORS[name] * vqgan.config.resolution, min(_CANDIDATE_SIDES))
    f = 1 if settings.drawer == "pixels" else vqgan.f
    aspect = settings.size[0] / settings.size[1]
    for side in sorted((side for side in _CANDIDATE_SIDES if side <= longest), reverse=True):
        size = _round_to_multiple((round(side * min(1.0, aspect)), round(side / max(1.0, aspect))), f)
        seconds = steps * speed.seconds_per_step(size, cutouts)
        if seconds <= TIME_BUDGETS[name] and _fits_in_memory(settings, size, cutouts, vqgan, clips, machine):
            break
    return Preset(name, size, steps, cutouts, seconds)


def _fits_in_memory(
    settings: PaintSettings, size: tuple[int, int], cutouts: int, vqgan: VQGAN, clips: list[Any], machine: Machine
) -> bool:
    larger = settings.model_copy(update={"size": size, "cutouts": cutouts})
    return plan_memory(larger, vqgan, clips, machine).fits


def _round_to_multiple(size: tuple[int, int], f: int) -> tuple[int, int]:
    return max(f, round(size[0] / f) * f), max(f, round(size[1] / f) * f)


def _synchronize(machine: Machine) -> None:
    if machine.device.type == "cuda":
        torch.cuda.synchronize(machine.device)
    elif machine.device.type == "mps":
        torch.mps.synchronize()


def _cache_key(settings: PaintSettings, machine: Machine) -> str:
    """A hash of everything that a result depends on: machine, version of torch, precision and networks."""
    networks = [file_sha256(resolve_path("vqgan", settings.vqgan))]
    networks += [_clip_identity(name) for name in parse_clips(settings.clip)]
    parts = [machine.describe(), torch.__version__, settings.drawer, settings.clip_precision, *networks]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _clip_identity(name: str) -> str:
    """The SHA-256 of a CLIP's file, or the name of one that open_clip downloads itself."""
    try:
        return file_sha256(resolve_path("clip", name))
    except UserError:
        return name


def _load_cache() -> dict[str, StepTimeModel]:
    try:
        stored = json.loads(cache_file().read_text("utf-8"))
        return {
            key: StepTimeModel(**result)
            for key, result in stored.items()
            if min(result["base"], result["pixel"], result["cutout"]) >= 0
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}  # missing or damaged: it will be measured again


def _save_to_cache(key: str, speed: StepTimeModel) -> None:
    results = {**_load_cache(), key: speed}
    write_text(cache_file(), json.dumps({name: asdict(result) for name, result in results.items()}, indent=1))
