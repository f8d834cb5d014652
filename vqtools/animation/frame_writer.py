"""Writes an animation's frames: the painted ones, those interpolated between them, and the cross-fade of a loop.

Knows images, the folder and the order of frames; nothing about painting.

Shapes: images are (1, 3, H, W) in [-1, 1]; pixels are (H, W, 3) of uint8, as they are saved.
"""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vqtools.animation.easing import smoothstep
from vqtools.animation.frame_motion import FrameWarper
from vqtools.animation.frame_plan import FramePlan, PlannedFrame
from vqtools.animation.project import Project
from vqtools.animation.settings import AnimateSettings
from vqtools.animation.timeline import Timeline
from vqtools.media.colour import sharpen
from vqtools.media.image import from_uint8, load_picture, to_tensor, to_uint8
from vqtools.media.video import frame_name

_LOOP_SEAM_BLEND = 0.15  # fraction of the first frame in a loop's last frame: makes the step over the seam smaller
_LEAD_IN_FOLDER = "lead"


def image_to_pixels(image: Tensor) -> Tensor:
    """Convert an image (1, 3, H, W) in [-1, 1] to pixels (H, W, 3) of uint8 on the CPU."""
    return to_uint8(image)[0]


def pixels_to_image(pixels: Tensor) -> Tensor:
    """Convert pixels (H, W, 3) of uint8 to an image (1, 3, H, W) in [-1, 1]."""
    return from_uint8(pixels)[None]


class FrameWriter:
    """Writes frames to a project's folder, each with its record."""

    def __init__(
        self, project: Project, settings: AnimateSettings, timeline: Timeline, plan: FramePlan, warper: FrameWarper
    ) -> None:
        self.project, self.settings, self.timeline, self.plan, self.warper = project, settings, timeline, plan, warper

    def write(self, frame: PlannedFrame, previous: Tensor | None, pixels: Tensor) -> None:
        """Write a painted frame, and before it the interpolated ones between it and the painted frame ``previous``."""
        for passed in range(1, frame.skipped + 1):
            assert previous is not None
            self._write_frame(frame.previous + passed, self._interpolated(frame, previous, pixels, passed))
        self._write_frame(frame.number, pixels)

    def _interpolated(self, frame: PlannedFrame, before: Tensor, after: Tensor, passed: int) -> Tensor:
        """The frame that many frames after ``before``: both painted neighbours warped to it, and blended."""
        times = self.plan.curve_frames(frame.previous, frame.number)
        return image_to_pixels(self.warper.interpolate(pixels_to_image(before), pixels_to_image(after), times, passed))

    def _write_frame(self, number: int, pixels: Tensor) -> None:
        record = self._record(self.plan.curve_frame(number))
        kept = number - self.plan.loop_overlap
        if kept < 0:
            self.project.save_frame(number, Image.fromarray(pixels.numpy()), record, _LEAD_IN_FOLDER)
            return
        pixels = self._fade_into_lead_in(kept, pixels)
        if self.settings.clarity:
            sharp = sharpen(pixels_to_image(pixels), self.settings.clarity, self.settings.seamless)
            pixels = image_to_pixels(sharp)
        if self.plan.loop_overlap and kept == self.settings.frames - 1:
            first = to_tensor(load_picture(self.project.frames / frame_name(0)))
            pixels = image_to_pixels(torch.lerp(pixels_to_image(pixels), first, _LOOP_SEAM_BLEND))
        self.project.save_frame(kept, Image.fromarray(pixels.numpy()), record)

    def _record(self, time: int) -> dict[str, Any]:
        record: dict[str, Any] = {"shown": self.timeline.prompt(time)}
        if not self.settings.video:
            record["motion"] = self.timeline(time).motion._asdict()
        return record

    def _fade_into_lead_in(self, kept: int, pixels: Tensor) -> Tensor:
        """Cross-fade the last frames of a loop with the frames that led to its first one; others stay unchanged."""
        overlap = self.plan.loop_overlap
        tail = kept - (self.settings.frames - overlap)
        if not overlap or tail < 0:
            return pixels
        lead_in = to_tensor(load_picture(self.project.folder / _LEAD_IN_FOLDER / frame_name(tail)))
        return image_to_pixels(torch.lerp(pixels_to_image(pixels), lead_in, smoothstep((tail + 1) / (overlap + 1))))
