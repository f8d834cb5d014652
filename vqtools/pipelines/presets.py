"""Presets as time and size: what draft, normal, better and best mean on the machine at hand, measured and not guessed.

A trial of about ten seconds paints a few steps at several sizes and numbers of cutouts; what came of it is kept in the
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
"""What a picture may take, guidance alone."""

MAX_RESOLUTION_FACTORS = {"draft": 2, "normal": 2, "better": 3, "best": 4}
"""How many times its training pictures' side a VQGAN may draw: beyond that a thing falls into many small ones.

Looked at: the starter's apple, cat and whale. More steps of more cutouts carry a larger picture."""

BENCHMARK_SECONDS = 10.0  # seconds
_CANDIDATE_SIDES = (128, 192, 256, 288, 320, 384, 448, 512, 640, 768, 1024, 1280, 1536, 2048)
_BENCHMARK_CASES = (((128, 128), 4), ((128, 128), 16), ((256, 256), 4))  # three unknowns, three kinds of step
_NETWORK_FIELDS = ("vqgan", "clip", "precision", "clip_precision")


@dataclass(frozen=True)
class StepTimeModel:
    """Seconds of a step: ``base + pixel · pixels + cutout · cutouts``."""

    base: float
    pixel: float
    cutout: float
    steps: int  # that were timed
    machine: str

    def step(self, size: tuple[int, int], cutouts: int) -> float:
        return self.base + self.pixel * size[0] * size[1] + self.cutout * cutouts

    def describe(self) -> str:
        """What was measured, in one line."""
        one = self.step((256, 256), 8)
        return f"{self.machine}: {1 / one:.1f} steps/s at 256x256 with 8 cutouts, from {self.steps} timed steps"


@dataclass(frozen=True)
class Preset:
    """What a preset's name stands for here."""

    name: str
    size: tuple[int, int]
    iterations: int
    cutouts: int
    seconds: float  # of guidance, expected

    def describe(self) -> str:
        """normal: 192x192, 100 iterations, 8 cutouts, about 14 s"""
        time = f"{self.seconds:.0f} s" if self.seconds < 100 else f"{self.seconds / 60:.0f} min"
        size = f"{self.size[0]}x{self.size[1]}"
        return f"{self.name}: {size}, {self.iterations} iterations, {self.cutouts} cutouts, about {time}"

    @property
    def fields(self) -> dict[str, Any]:
        return {"size": self.size, "iterations": self.iterations, "cutouts": self.cutouts}


def measure_presets(
    settings: PaintSettings | None = None, *, again: bool = False, say: Callable[[str], None] = lambda line: None
) -> tuple[StepTimeModel, dict[str, Preset]]:
    """What each preset means for these networks on this machine; a trial of ten seconds where nobody knows yet.

    settings: whose networks, precision and shape of picture count. again: measure though it is known.
    """
    settings = settings or PaintSettings()
    machine = choose_machine(precision=settings.precision)
    vqgan = load_vqgan(settings.vqgan)
    key = _cache_key(settings, machine)
    speed = None if again else _load_cache().get(key)
    if speed is None:
        say(f"measuring what this machine does, for {BENCHMARK_SECONDS:.0f} seconds; it is remembered")
        speed = run_benchmark(settings, machine)
        _save_to_cache(key, speed)
    clips = [load_clip(name) for name in parse_clips(settings.clip)]
    return speed, {name: _fit_preset(name, speed, settings, vqgan, clips, machine) for name in PRESETS}


def apply_preset(fields: Mapping[str, Any], *, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Settings with what their preset means here; what they say themselves stands. Unchanged without a preset."""
    fields = dict(fields)
    name = fields.get("preset")
    if name not in PRESETS or quick_requested() or {"size", "iterations", "cutouts"} <= fields.keys():
        return fields  # a picture's record, say, which leaves nothing open
    own = {key: value for key, value in fields.items() if key in (*_NETWORK_FIELDS, "drawer", "size")}
    chosen = measure_presets(PaintSettings.parse(own), say=say)[1][name]
    kept = {key: value for key, value in chosen.fields.items() if key not in fields}
    if "size" in fields:  # the time then goes into the steps that the preset has anyway
        kept.pop("size", None)
    return {**fields, **kept}


def run_benchmark(settings: PaintSettings, machine: Machine, seconds: float = BENCHMARK_SECONDS) -> StepTimeModel:
    """Time steps of several sizes and numbers of cutouts, in turns so that other load meets all of them."""
    vqgan = load_vqgan(settings.vqgan)
    clips = {load_clip(name): weight for name, weight in parse_clips(settings.clip).items()}
    plain = {name: getattr(settings, name) for name in (*_NETWORK_FIELDS, "drawer")}
    painters = []
    for size, cutouts in _BENCHMARK_CASES:
        sides = _round_to_multiple(size, 1 if settings.drawer == "pixels" else vqgan.f)
        wish = PaintSettings.parse({**plain, "size": sides, "cutouts": cutouts, "seed": 0, "iterations": 100_000})
        painters.append(Painter(wish, vqgan, list(clips), clip_weights=list(clips.values()), machine=machine))
    times: list[list[float]] = [[] for _ in painters]
    started = time.monotonic()
    while not times[0] or (time.monotonic() - started < seconds and len(times[0]) < 200):
        for painter, taken in zip(painters, times, strict=True):
            if painter.position == 0:
                painter.step()  # the first one also makes kernels and memory
            begun = time.perf_counter()
            painter.step()
            _synchronize(machine)
            taken.append(time.perf_counter() - begun)
    few, many, large = (statistics.median(taken) for taken in times)
    return _fit_step_time(few, many, large, [painter.settings for painter in painters], len(times[0]), machine)


def _fit_step_time(
    few: float, many: float, large: float, wishes: list[PaintSettings], rounds: int, machine: Machine
) -> StepTimeModel:
    """The three unknowns of a :class:`StepTimeModel`, none below zero: a busy machine may say so."""
    small, _, big = (wish.size[0] * wish.size[1] for wish in wishes)
    cutout = max(0.0, (many - few) / (wishes[1].cutouts - wishes[0].cutouts))
    pixel = max(0.0, (large - few) / (big - small))
    base = max(0.0, few - pixel * small - cutout * wishes[0].cutouts)
    return StepTimeModel(base, pixel, cutout, 3 * rounds, machine.describe())


def _fit_preset(
    name: str, speed: StepTimeModel, settings: PaintSettings, vqgan: VQGAN, clips: list[Any], machine: Machine
) -> Preset:
    """The largest picture that the network can fill and whose steps fit into the preset's time, and into memory."""
    steps, cutouts = PRESETS[name]["iterations"], PRESETS[name]["cutouts"]
    most = MAX_RESOLUTION_FACTORS[name] * vqgan.config.resolution
    f = 1 if settings.drawer == "pixels" else vqgan.f
    shape = settings.size[0] / settings.size[1]
    # the smallest picture stands at the end, whatever it takes
    for side in sorted((side for side in _CANDIDATE_SIDES if side <= max(most, min(_CANDIDATE_SIDES))), reverse=True):
        size = _round_to_multiple((round(side * min(1.0, shape)), round(side / max(1.0, shape))), f)
        seconds = steps * speed.step(size, cutouts)
        if side == min(_CANDIDATE_SIDES) or (
            seconds <= TIME_BUDGETS[name] and _fits_in_memory(settings, size, cutouts, vqgan, clips, machine)
        ):
            break
    return Preset(name, size, steps, cutouts, seconds)


def _fits_in_memory(
    settings: PaintSettings, size: tuple[int, int], cutouts: int, vqgan: VQGAN, clips: list[Any], machine: Machine
) -> bool:
    wish = settings.model_copy(update={"size": size, "cutouts": cutouts})
    return plan_memory(wish, vqgan, clips, machine).fits


def _round_to_multiple(size: tuple[int, int], f: int) -> tuple[int, int]:
    return max(f, round(size[0] / f) * f), max(f, round(size[1] / f) * f)


def _synchronize(machine: Machine) -> None:
    if machine.device.type == "cuda":
        torch.cuda.synchronize(machine.device)
    elif machine.device.type == "mps":
        torch.mps.synchronize()


def _cache_key(settings: PaintSettings, machine: Machine) -> str:
    """Machine, torch and networks: with another of these it is measured again."""
    names = [settings.vqgan, *parse_clips(settings.clip)]
    shas = [file_sha256(resolve_path("vqgan", settings.vqgan))]
    for name in names[1:]:
        try:
            shas.append(file_sha256(resolve_path("clip", name)))
        except UserError:  # open_clip's own, known by their names
            shas.append(name)
    parts = [machine.describe(), torch.__version__, settings.drawer, settings.clip_precision, *shas]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def cache_file() -> Path:
    """The file that remembers."""
    return home_folder() / "presets.json"


def _load_cache() -> dict[str, StepTimeModel]:
    try:
        stored = json.loads(cache_file().read_text("utf-8"))
        return {
            key: StepTimeModel(**one)
            for key, one in stored.items()
            if min(one["base"], one["pixel"], one["cutout"]) >= 0
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}  # not there, or spoilt: measured again


def _save_to_cache(key: str, speed: StepTimeModel) -> None:
    stored = {**{name: asdict(one) for name, one in _load_cache().items()}, key: asdict(speed)}
    write_text(cache_file(), json.dumps(stored, indent=1))
