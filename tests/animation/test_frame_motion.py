"""Frames are warped by the camera with depth, or by the optical flow of the user's video."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.animation.conftest import settings_of
from vqtools.animation.frame_motion import CameraWarper
from vqtools.animation.project import VIDEO_FRAMES_FOLDER, export_animation_video
from vqtools.animation.timeline import Timeline
from vqtools.core.errors import UserError
from vqtools.media.image import load_picture
from vqtools.media.png_record import save_png
from vqtools.media.video import frame_name, list_frames

Make = Callable[..., Any]


@pytest.fixture
def restyle(animator: Make, shapes: Make) -> Make:
    """An animator of a folder that holds a video's frames."""

    def make(folder: Path, frames: int = 5, **fields: Any) -> Any:
        for number, picture in enumerate(shapes(frames)):
            save_png(folder / VIDEO_FRAMES_FOLDER / frame_name(number), picture, {}, overwrite=True)
        fixed = {"size": (96, 64), "video": "clip.mp4", "frames": frames, "clarity": 0, "antiblur": "0"}
        return animator(folder, **{**fixed, **fields})

    return make


def run(job: Any) -> list[np.ndarray[Any, Any]]:
    while job.position < job.total:
        job.step()
    paths = list_frames(job.project.frames)
    return [np.asarray(load_picture(path), dtype=int) for path in paths]


def test_the_painted_picture_follows_the_motion_of_the_video(restyle: Make, tmp_path: Path) -> None:
    pictures = run(restyle(tmp_path, anchor=0, iterations_per_frame="0", hold=0.999, frames=3))
    square, ground = (slice(22, 42), slice(12, 32)), (slice(46, 64), slice(50, 96))
    moved = pictures[2][22:42, 16:36]
    assert np.abs(moved - pictures[0][square]).mean() < 0.5 * np.abs(pictures[2][square] - pictures[0][square]).mean()
    assert np.abs(pictures[2][ground] - pictures[0][ground]).mean() < 4


def test_an_anchor_of_one_gives_the_video_itself(restyle: Make, shapes: Make, tmp_path: Path) -> None:
    pictures = run(restyle(tmp_path, anchor=1, iterations_per_frame="0", hold=0.999, frames=3))
    for picture, expected in zip(pictures, shapes(3), strict=True):
        assert np.abs(picture - np.asarray(expected, dtype=int)).max() <= 2


def test_init_weight_keeps_frames_close_to_the_video(restyle: Make, tmp_path: Path) -> None:
    fields = {"frames": 2, "iterations_per_frame": "12", "hold": 0}
    free, held = restyle(tmp_path / "free", **fields), restyle(tmp_path / "held", init_weight=5000, **fields)
    run(free), run(held)
    away = []
    for job in (free, held):
        painter = job.first.painter
        start = job._encode(painter, job.warper.video_frame(1))
        away.append(float((painter.z.detach() - start).square().mean()))
    assert away[1] < 0.5 * away[0]


def test_a_run_resumed_after_any_step_makes_the_same_frames(restyle: Make, tmp_path: Path) -> None:
    fields = {"cadence": 2, "color_coherence": "LAB", "noise_schedule": "0.1"}
    whole = run(restyle(tmp_path / "whole", **fields))
    broken = restyle(tmp_path / "broken", **fields)
    while broken.position < broken.total:
        broken.step()
        if broken.frames_made:
            broken = restyle(tmp_path / "broken", **fields)
    assert len(whole) == 5
    for ours, theirs in zip(run(broken), whole, strict=True):
        assert np.array_equal(ours, theirs)


def test_the_audio_of_the_video_is_kept(restyle: Make, clip: Make, tmp_path: Path) -> None:
    job = restyle(tmp_path / "a", frames=4, video=str(clip()), fps=8)
    run(job)
    video = export_animation_video(job.project, job.settings)
    with av.open(str(video.path)) as file:
        assert (file.streams.video[0].codec_context.name, file.streams.video[0].codec_context.pix_fmt) == (
            "h264", "yuv420p",
        )  # fmt: skip
        assert float(file.streams.video[0].average_rate) == 8
        loud = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
    assert np.abs(loud).max() > 0.1
    job = restyle(tmp_path / "b", frames=2, video=str(clip(sound=False)), fps=8)
    run(job)
    with av.open(str(export_animation_video(job.project, job.settings).path)) as file:
        assert not file.streams.audio and sum(1 for _ in file.decode(video=0)) == 2


def test_a_missing_video_frame_is_named(restyle: Make, tmp_path: Path) -> None:
    job = restyle(tmp_path)
    (tmp_path / VIDEO_FRAMES_FOLDER / frame_name(3)).unlink()
    with pytest.raises(UserError, match=r"frame-00003\.png of the video is missing"):
        run(job)


def spots() -> Tensor:
    noise = torch.rand(1, 3, 12, 18, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(noise, size=(64, 96), mode="bicubic").clamp(-1, 1)


def test_a_camera_with_depth_moves_near_pixels_more(tmp_path: Path) -> None:
    settings = settings_of(size=(96, 64), frames=2, motion="none", translation_x="6", iterations_per_frame="0",
                                 antiblur="0", hold=0.0, clarity=0.0, cutouts=1)  # fmt: skip
    far = torch.full((1, 1, 64, 96), 2.0)
    far[..., 32:, :] = 0.5
    warper = CameraWarper(
        lambda time: Timeline(settings, 1)(time).motion, (96, 64), "reflect", depth_estimator=lambda image: far
    )
    image = spots()
    moved = warper.warp_picture(image, [1])
    assert (moved[..., :28, 10:80] - image[..., :28, 7:77]).abs().mean() < 0.01
    assert (moved[..., 36:, 20:80] - image[..., 36:, 8:68]).abs().mean() < 0.01
