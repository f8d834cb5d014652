"""Puts networks and animations together: what `vqtools.animate` and `vqtools animate` call.

Knows settings, folders and names of networks; how a frame is made is the animation's.
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
_PRESERVED_RECORD_KEYS = ("turn", "heard_from")  # of a folder's record: not the networks', nor the settings'


def fit_to_video(settings: AnimateSettings, given: Collection[str]) -> AnimateSettings:
    """For a film of one's own: its rate and its whole length, where ``given`` names no other."""
    if not settings.video:
        return settings
    clip = probe_video(settings.video)
    fps = settings.fps if "fps" in given else min(240.0, max(0.1, clip.fps))
    most = settings.frames if "frames" in given else clip.count(fps)
    return settings.model_copy(update={"fps": fps, "frames": min(most, clip.count(fps))})


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
    """An animation ready to be stepped, its networks found by the settings' names; a folder with frames goes on.

    threads: of the CPU; the same bits again need the number they were made with.
    """
    settings = settings.with_seed()
    seed = settings.known_seed
    if settings.drawer == "pixels":
        raise UserError("drawer 'pixels' is for single pictures; animate with 'vqgan'")
    heard = analyse_audio(settings.audio, settings.fps) if settings.audio else None
    track = Timeline(settings, seed, offset_audio(heard, project.audio_offset) if heard else None)
    wish = settings.model_copy(update={"prompt": track.prompt(0)})
    if settings.video:
        wish = wish.model_copy(update={"init_image": _extract_video_frames(settings, project), "init": "auto"})
    first = create_paint_job(wish, threads=threads)
    project.record = {
        **{name: project.record[name] for name in _PRESERVED_RECORD_KEYS if name in project.record},
        **{name: value for name, value in first.record().items() if name not in ("position", "total")},
        "settings": settings.model_dump(mode="json"),
    }
    project.save()
    if not settings.octave_zoom:
        outpaint = create_outpainter(settings, first.vqgan) if settings.border == "outpaint" else None
        see = load_depth_estimator(settings.depth, choose_machine().device) if settings.depth else None
        return Animator(settings, first, project, seed=seed, track=track, outpaint=outpaint, see=see)

    def begin(prompt: str, seed: int, compose: InitTransform) -> PaintJob:
        wish = settings.model_copy(update={"prompt": prompt, "seed": seed})
        return create_paint_job(wish, threads=threads, transform_start=compose)

    return OctaveZoom(settings, begin, project, seed=seed, track=track)


def _extract_video_frames(settings: AnimateSettings, project: Project) -> str:
    """The film's frames in the folder, laid there if they are not; returns the first one's file."""
    project.create_folder()
    folder = project.folder / VIDEO_FRAMES_FOLDER
    last = folder / frame_name(settings.frames - 1)
    if not last.is_file():
        count = extract_frames(settings.video, folder, fps=settings.fps, most=settings.frames, size=settings.size)
        if count < settings.frames:
            raise UserError(
                f"film {settings.video!r} has {count} frames at {settings.fps:g} a second, not {settings.frames};"
                f" say --frames {count}"
            )
    return str(folder / frame_name(0))


def estimate_animation(job: Animator | OctaveZoom) -> Estimate:
    """What an animation will take, from a few steps of a painting that is thrown away."""
    settings = job.settings
    vqgan, clip = load_vqgan(settings.vqgan), load_clip(next(iter(parse_clips(settings.clip))))
    trial = settings.model_copy(update={"prompt": job.timeline.prompt(0), "seed": 0})
    return estimate_remaining(
        job,
        Painter(trial, vqgan, [clip.to(choose_machine().device)], machine=choose_machine(precision=settings.precision)),
    )


def rewind_animation(job: Animator | OctaveZoom, frames: int) -> str:
    """Throw an animation's last frames away; what is to be said about it."""
    left = f"{job.rewind(frames)} frames are left"
    if not isinstance(job, OctaveZoom):
        return left
    missing = job.count - len(job.painted)
    if not missing:
        return f"{left}, which need all of its pictures; only where more are thrown away can others be painted"
    return f"{left}; {missing} of {job.count} pictures will be painted anew"


def animate(prompt: str = "", *, out: str | Path | None = None, **fields: Any) -> Path:
    """Frames and a video from a prompt; every field of AnimateSettings is a keyword. Returns the folder."""
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
    """A depth network of the transformers library by its folder or name, such as one of Depth Anything's or DPT's."""
    try:
        from transformers import AutoModelForDepthEstimation
    except ImportError:
        raise UserError("motion by depth needs transformers; pip install 'vqtools[depth]'") from None
    try:
        model: Any = AutoModelForDepthEstimation.from_pretrained(name, local_files_only=Path(name).is_dir())
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"depth {name!r} is no depth network that can be read ({reason})") from None
    model = model.to(device).eval().requires_grad_(False)
    mean = torch.tensor([0.485, 0.456, 0.406], device=device).view(1, 3, 1, 1)
    spread = torch.tensor([0.229, 0.224, 0.225], device=device).view(1, 3, 1, 1)
    side = 14 * 16  # what patches of 14 and of 16 pixels both fit

    @torch.no_grad()
    def see(image: Tensor) -> Tensor:
        seen = F.interpolate(image.to(device).add(1).div(2).clamp(0, 1), (side, side), mode="bicubic", antialias=True)
        found = model(pixel_values=(seen - mean) / spread).predicted_depth
        whole = F.interpolate(found[None].float(), image.shape[-2:], mode="bilinear", align_corners=False)
        return disparity_to_distance(whole).cpu()

    return see
