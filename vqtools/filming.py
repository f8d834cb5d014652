"""Puts networks and animations together: what `vqtools.animate` and `vqtools animate` call.

Knows settings, folders and names of networks; how a frame is made is the animation's.
"""

from __future__ import annotations

import functools
import secrets
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools import media
from vqtools.animation.animator import Animator
from vqtools.animation.camera import Outpainter
from vqtools.animation.clips import extract_frames, probe_video
from vqtools.animation.depth import load_depth_estimator
from vqtools.animation.forecast import Estimate, estimate_remaining
from vqtools.animation.octaves import InitTransform, OctaveZoom
from vqtools.animation.project import VIDEO_FRAMES_FOLDER, Project, export_animation_video
from vqtools.animation.settings import AnimateSettings
from vqtools.animation.sound import analyse_audio, offset_audio
from vqtools.animation.track import Timeline
from vqtools.animation.video import FRAME_PATTERN
from vqtools.device import choose_machine
from vqtools.drawing import load_sampling_networks, prefix_tokens
from vqtools.models.gpt import GPT
from vqtools.models.vqgan import VQGAN
from vqtools.networks import load_clip, load_vqgan
from vqtools.painting.painter import Painter
from vqtools.painting.prompts import parse_prompts
from vqtools.painting.settings import parse_clips
from vqtools.picture import PaintJob
from vqtools.sampling.sampler import Sampler, cell_noise
from vqtools.sampling.settings import SampleSettings
from vqtools.sampling.window import choose_flips
from vqtools.settings import UserError
from vqtools.studio import OctavePaintJob, create_paint_job

_PRESERVED_RECORD_KEYS = ("turn", "heard_from")  # of a folder's record: not the networks', nor the settings'
_MAX_UNKNOWN_FRACTION = 0.001  # of a cell's pixels: more, and it is drawn

ConditionPair = tuple[Tensor | None, Tensor | None]


def fit_to_video(settings: AnimateSettings, given: Collection[str]) -> AnimateSettings:
    """For a film of one's own: its rate and its whole length, where ``given`` names no other."""
    if not settings.video:
        return settings
    clip = probe_video(settings.video)
    fps = settings.fps if "fps" in given else min(240.0, max(0.1, clip.fps))
    most = settings.frames if "frames" in given else clip.count(fps)
    return settings.model_copy(update={"fps": fps, "frames": min(most, clip.count(fps))})


def create_animation(
    settings: AnimateSettings, project: Project, *, threads: int | None = None
) -> Animator | OctaveZoom:
    """An animation ready to be stepped, its networks found by the settings' names; a folder with frames goes on.

    threads: of the CPU; the same bits again need the number they were made with.
    """
    seed = secrets.randbelow(2**32) if settings.seed is None else settings.seed
    settings = settings.model_copy(update={"seed": seed})
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
        return create_paint_job(wish, threads=threads, kind=functools.partial(OctavePaintJob, compose=compose))

    return OctaveZoom(settings, begin, project, seed=seed, track=track)


def _extract_video_frames(settings: AnimateSettings, project: Project) -> str:
    """The film's frames in the folder, laid there if they are not; returns the first one's file."""
    project.begin()
    folder = project.folder / VIDEO_FRAMES_FOLDER
    last = folder / FRAME_PATTERN.format(settings.frames - 1)
    if not last.is_file():
        count = extract_frames(settings.video, folder, fps=settings.fps, most=settings.frames, size=settings.size)
        if count < settings.frames:
            raise UserError(
                f"film {settings.video!r} has {count} frames at {settings.fps:g} a second, not {settings.frames};"
                f" say --frames {count}"
            )
    return str(folder / FRAME_PATTERN.format(0))


def create_outpainter(settings: AnimateSettings, vqgan: VQGAN) -> Outpainter:
    """What comes in at the sides, drawn by the transformer after the known part of the picture, code by code."""
    machine = choose_machine()
    sampling = SampleSettings.parse(
        {name: getattr(settings, name) for name in ("size", "vqgan", "clip", "transformer", "seed")}
    )
    _, gpt, _ = load_sampling_networks(sampling, machine)
    subject = _outpaint_prompt(settings) if gpt.config.text_dim else ""
    condition = prefix_tokens(gpt, sampling.model_copy(update={"prompt": subject}), machine.device)

    def outpaint(image: Tensor, mask: Tensor) -> Tensor:
        return _outpaint_codes(image, mask, vqgan, gpt, sampling, condition)

    return outpaint


def _outpaint_prompt(settings: AnimateSettings) -> str:
    """What the transformer is told that the picture shows: the first scene's first text that is not repelled."""
    asked = parse_prompts(settings.prompt.split("^")[0].replace("{}", " ").strip() or " a picture")
    return next((one.text for one in asked if one.weight > 0), "")


@torch.no_grad()
def _outpaint_codes(
    image: Tensor, mask: Tensor, vqgan: VQGAN, gpt: GPT, sampling: SampleSettings, tokens: ConditionPair
) -> Tensor:
    """A picture (1, 3, H, W) whose unknown pixels, where the mask (1, 1, H, W) is true, are drawn."""
    unknown = F.avg_pool2d(mask.float(), vqgan.f)[0, 0]
    known = unknown < _MAX_UNKNOWN_FRACTION
    turned = [
        axis for axis, flip in enumerate(choose_flips(map(tuple, known.nonzero().tolist()), *known.shape)) if flip
    ]
    known = known.flip(turned).cpu()
    codes = vqgan.encode(image.flip([axis + 2 for axis in turned]))
    condition, unconditional = tokens
    if condition is None:  # it is the picture itself, as far as it is known
        condition = torch.where(known.to(codes.device), codes, gpt.config.mask_code)
    turn = zlib.crc32(image.cpu().numpy().tobytes()) & 0xFFFF  # another frame, another draw
    height, width = known.shape
    sampler = Sampler(
        gpt, height, width, condition, noise=cell_noise(sampling.seed or 0, 1, gpt.config.num_codes, turn),
        unconditional=unconditional, guidance=sampling.guidance, given=codes, known=known, top_p=sampling.top_p,
        memory=sampling.memory * 1e9,
    )  # fmt: skip
    while sampler.position < sampler.total:
        sampler.step()
    drawn = vqgan.decode(sampler.codes).clamp(-1, 1).flip([axis + 2 for axis in turned])
    reach = 2 * (vqgan.f // 2) + 1  # a soft passage, on the side of what is known
    soft = F.avg_pool2d(mask.float(), reach, stride=1, padding=reach // 2, count_include_pad=False)
    return torch.lerp(image, drawn.to(image), torch.where(mask, 1.0, soft).to(image))


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
    settings = fit_to_video(AnimateSettings.parse(fields), fields).quick()
    if settings.seed is None:
        settings = settings.model_copy(update={"seed": secrets.randbelow(2**32)})
    stem = media.file_stem(settings.prompt, settings.seed or 0)
    project = Project.create_lazily(out or stem, {"settings": settings.model_dump(mode="json")})
    try:
        job = create_animation(settings, project)
    except BaseException:
        project.forget()
        raise
    with project.alone():
        while job.position < job.total:
            job.step()
        export_animation_video(project, settings)
    return project.folder
