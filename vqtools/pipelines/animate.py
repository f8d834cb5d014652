"""Animations from settings: what `vqtools.animate` and `vqtools animate` call.

Resolves names of networks and puts networks, engines and folders together. Knows nothing about how a frame is made.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.animation.animator import Animator
from vqtools.animation.audio import analyse_audio, offset_audio
from vqtools.animation.depth import DepthEstimator, disparity_to_distance
from vqtools.animation.estimate import Estimate, estimate_remaining
from vqtools.animation.octave_zoom import InitTransform, OctaveZoom
from vqtools.animation.project import VIDEO_FRAMES_FOLDER, Project, export_animation_video
from vqtools.animation.settings import IDENTITY_MOTION, OCTAVE_ZOOM_LIVE_FIELDS, AnimateSettings
from vqtools.animation.timeline import Timeline
from vqtools.core.device import choose_machine
from vqtools.core.errors import UserError, shorten
from vqtools.core.job import finish
from vqtools.core.paths import file_stem
from vqtools.core.settings import Option
from vqtools.media.video import frame_name
from vqtools.media.video_reader import extract_frames, probe_video
from vqtools.painting.painter import Painter
from vqtools.painting.parsers import parse_clips
from vqtools.pipelines.outpaint import create_outpainter
from vqtools.pipelines.paint import create_paint_job
from vqtools.pipelines.paint_job import PaintJob
from vqtools.weights.load import load_clip, load_vqgan

_VIDEO_FIELDS = frozenset({"format", "out_fps", "between", "crf", "odd_sides", "audio"})  # of the file, not of frames
_PRESERVED_RECORD_KEYS = ("turn", "heard_from")  # of a folder's record; all others are written anew
_DEPTH_SIDE = 14 * 16  # pixels: a multiple of both usual patch sizes, 14 and 16


def fit_to_video(settings: AnimateSettings, given: Collection[str]) -> AnimateSettings:
    """Take frame rate and length from the user's video, except those of ``fps`` and ``frames`` that ``given`` names."""
    if not settings.video:
        return settings
    video = probe_video(settings.video)
    fps = settings.fps if "fps" in given else min(240.0, max(0.1, video.fps))
    most = settings.frames if "frames" in given else video.frame_count(fps)
    return settings.model_copy(update={"fps": fps, "frames": min(most, video.frame_count(fps))})


def new_settings(fields: Mapping[str, Any]) -> AnimateSettings:
    """Settings of a new animation from fields by name, with a seed; a video given sets the rate and the length."""
    return fit_to_video(AnimateSettings.parse(fields), fields).quick().with_seed()


def change_settings(project: Project, fields: Mapping[str, Any], *, rewind: bool = False) -> AnimateSettings:
    """A folder's settings with some fields changed.

    rewind: the last frames will be removed first, so that an octave zoom can take other prompts. Raises UserError for
    a field that is fixed once the folder holds frames or pictures.
    """
    before = AnimateSettings.parse(project.record["settings"])
    curves = _preset_curves(fields["motion"]) if "motion" in fields else {}
    settings = AnimateSettings.parse({**project.record["settings"], **curves, **fields})
    if not (project.positions() or (project.folder / "octaves").is_dir()):
        return settings
    for option in AnimateSettings.options():
        old = getattr(before, option.name)
        if old != getattr(settings, option.name) and not _may_change(option, before, rewind):
            raise UserError(
                f"{option.flag} can't change in a folder that is begun ({shorten(old)} there);"
                " omit it, or start a new folder"
            )
    return settings


def _may_change(option: Option, before: AnimateSettings, rewind: bool) -> bool:
    """Whether a setting of a folder with frames can change: it must not contradict the frames that stay."""
    if before.octave_zoom:
        allowed = _VIDEO_FIELDS | OCTAVE_ZOOM_LIVE_FIELDS if rewind else _VIDEO_FIELDS
        return option.live and option.name in allowed
    return option.live and not (before.loop and option.name == "frames")


def _preset_curves(motion: Any) -> dict[str, Any]:
    """The curves of a motion preset: they replace those that the folder's settings hold."""
    preset = AnimateSettings.parse({"motion": motion})
    return {name: getattr(preset, name) for name in IDENTITY_MOTION}


def create_animation(
    settings: AnimateSettings, project: Project, *, threads: int | None = None
) -> Animator | OctaveZoom:
    """Create an animation as a job, with the networks that the settings name; a folder with frames is continued.

    threads: of the CPU; the same bits again need the number they were made with.
    """
    settings = settings.with_seed()
    seed = settings.known_seed
    if settings.drawer == "pixels":
        raise UserError("drawer 'pixels' is for single pictures; animate with 'vqgan'")
    audio = analyse_audio(settings.audio, settings.fps) if settings.audio else None
    timeline = Timeline(settings, seed, offset_audio(audio, project.audio_offset) if audio else None)
    start = settings.model_copy(update={"prompt": timeline.prompt(0)})
    if settings.video:
        start = start.model_copy(update={"init_image": _extract_video_frames(settings, project), "init": "auto"})
    first = create_paint_job(start, threads=threads)
    project.record = {
        **{name: project.record[name] for name in _PRESERVED_RECORD_KEYS if name in project.record},
        **{name: value for name, value in first.record().items() if name not in ("position", "total")},
        "settings": settings.model_dump(mode="json"),
    }
    project.save()
    if not settings.octave_zoom:
        return Animator(
            settings,
            first,
            project,
            seed=seed,
            timeline=timeline,
            outpaint=create_outpainter(settings, first.vqgan) if settings.border == "outpaint" else None,
            depth_estimator=load_depth_estimator(settings.depth, choose_machine().device) if settings.depth else None,
        )

    def create_job(prompt: str, seed: int, transform: InitTransform) -> PaintJob:
        picture = settings.model_copy(update={"prompt": prompt, "seed": seed})
        return create_paint_job(picture, threads=threads, transform_start=transform)

    return OctaveZoom(settings, create_job, project, seed=seed, timeline=timeline)


def _extract_video_frames(settings: AnimateSettings, project: Project) -> str:
    """Extract the video's frames into the folder unless they are there; returns the path of the first."""
    project.create_folder()
    folder = project.folder / VIDEO_FRAMES_FOLDER
    last = folder / frame_name(settings.frames - 1)
    if not last.is_file():
        count = extract_frames(settings.video, folder, fps=settings.fps, limit=settings.frames, size=settings.size)
        if count < settings.frames:
            raise UserError(
                f"video {settings.video!r} has {count} frames at {settings.fps:g} per second, not {settings.frames};"
                f" use --frames {count}"
            )
    return str(folder / frame_name(0))


def estimate_animation(job: Animator | OctaveZoom) -> Estimate:
    """Estimate what an animation will take, from a few steps of a throw-away painting."""
    settings = job.settings
    vqgan, clip = load_vqgan(settings.vqgan), load_clip(next(iter(parse_clips(settings.clip))))
    machine = choose_machine(precision=settings.precision)
    trial = settings.model_copy(update={"prompt": job.timeline.prompt(0), "seed": 0})
    return estimate_remaining(job, Painter(trial, vqgan, [clip.to(machine.device)], machine=machine))


def rewind_animation(job: Animator | OctaveZoom, frames: int) -> str:
    """Remove an animation's last frames; returns a sentence about what is left."""
    left = f"{job.rewind(frames)} frames are left"
    if not isinstance(job, OctaveZoom):
        return left
    missing = job.count - len(job.painted)
    if not missing:
        return f"{left}, and they need all pictures; remove more frames to have pictures painted again"
    return f"{left}; {missing} of {job.count} pictures will be painted again"


def animate(prompt: str = "", *, out: str | Path | None = None, **fields: Any) -> Path:
    """Make frames and a video from a prompt; every field of AnimateSettings is a keyword. Returns the folder."""
    fields = {**fields, **({"prompt": prompt} if prompt else {})}
    settings = new_settings(fields)
    stem = file_stem(settings.prompt, settings.known_seed)
    project = Project.create_lazily(out or stem, {"settings": settings.model_dump(mode="json")})
    try:
        job = create_animation(settings, project)
    except BaseException:
        project.discard_if_empty()
        raise
    with project.locked():
        finish(job)
        export_animation_video(project, settings)
    return project.folder


def load_depth_estimator(name: str, device: torch.device) -> DepthEstimator:
    """Load a depth network of the transformers library by folder or name, such as Depth Anything or DPT."""
    try:
        from transformers import AutoModelForDepthEstimation
    except ImportError:
        raise UserError("motion by depth needs transformers; install it with: pip install 'vqtools[depth]'") from None
    try:
        model: Any = AutoModelForDepthEstimation.from_pretrained(name, local_files_only=Path(name).is_dir())
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"depth {name!r} is not a depth network that can be read ({reason})") from None
    model = model.to(device).eval().requires_grad_(False)
    mean = torch.tensor([0.485, 0.456, 0.406], device=device).view(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225], device=device).view(1, 3, 1, 1)

    @torch.no_grad()
    def estimate_depth(image: Tensor) -> Tensor:
        unit = image.to(device).add(1).div(2).clamp(0, 1)
        small = F.interpolate(unit, (_DEPTH_SIDE, _DEPTH_SIDE), mode="bicubic", antialias=True)
        disparity = model(pixel_values=(small - mean) / deviation).predicted_depth
        full_size = F.interpolate(disparity[None].float(), image.shape[-2:], mode="bilinear", align_corners=False)
        return disparity_to_distance(full_size).cpu()

    return estimate_depth
