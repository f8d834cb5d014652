"""All curves of one animation: what happens at a frame, checked for every frame before anything starts.

Knows settings and numbers; nothing about pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from vqtools.animation.audio import AUDIO_VARIABLES, AudioFeatures, analyse_audio
from vqtools.animation.camera import Motion, homography
from vqtools.animation.keyframes import Curve
from vqtools.animation.mapping_parser import parse_mapping
from vqtools.animation.prompt_schedule import PromptSchedule, parse_prompt_schedule
from vqtools.animation.settings import CURVE_FIELDS, SIZE_VARIABLES, AnimateSettings
from vqtools.core.errors import UserError, shorten

_MAX_ITERATIONS = 10_000
_MAX_CHECKED_FRAMES = 2_000  # frames at which the motion is tried before the start


class FrameParameters(NamedTuple):
    """One frame's numbers. ``motion`` leads from the frame before to it."""

    motion: Motion
    iterations: int
    noise: float
    antiblur: float


class Timeline:
    """The settings' curves, called with a frame. ``sound`` is heard from the settings' file where there is one."""

    def __init__(self, settings: AnimateSettings, seed: int, sound: AudioFeatures | None = None) -> None:
        self.last, self.seed = settings.frames - 1, seed
        self.sides = dict(zip(SIZE_VARIABLES, map(float, settings.size), strict=True))
        self.sound = analyse_audio(settings.audio, settings.fps) if settings.audio and sound is None else sound
        names = (*SIZE_VARIABLES, *AUDIO_VARIABLES) if self.sound is not None else SIZE_VARIABLES
        self.curves = {
            name: Curve.parse(getattr(settings, name), interpolation=settings.interpolation, variables=names)
            for name in CURVE_FIELDS
        }
        self.scenes: PromptSchedule = parse_prompt_schedule(
            settings.prompt, settings.prompts_at, frames=settings.frames, fps=settings.fps, fade=settings.crossfade,
            scene_frames=settings.scene_frames, seed=seed, sound=self.sound,
        )  # fmt: skip
        self.pictures = _parse_init_images(settings.init_images_at, self.last, seed)

    def __call__(self, frame: int) -> FrameParameters:
        heard = self.sound(frame) if self.sound is not None else {}
        value = {name: curve(frame, self.last, self.seed, **self.sides, **heard) for name, curve in self.curves.items()}
        return FrameParameters(
            Motion(*(value[name] for name in Motion._fields)),
            min(_MAX_ITERATIONS, max(0, round(value["iterations_per_frame"]))),
            max(0.0, value["noise_schedule"]),
            max(0.0, value["antiblur"]),
        )

    def prompt(self, frame: int) -> str:
        return self.scenes(frame)

    def check(self, size: tuple[int, int]) -> None:
        """UserError for the first frame whose numbers, motion or prompt make no picture."""
        for frame in range(0, self.last + 1, -(-(self.last + 1) // _MAX_CHECKED_FRAMES)):
            try:
                homography(self(frame).motion, *size)
                self.scenes(frame)
            except UserError as error:
                raise type(error)(f"frame {frame}: {error}") if type(error) is UserError else error from None


def _parse_init_images(text: str, last: int, seed: int) -> dict[int, Path]:
    if not text.strip():
        return {}
    found = {}
    for key, value in parse_mapping(text):
        if not isinstance(value, str) or not Path(value).is_file():
            raise UserError(f"init_images_at {shorten(value)}: the picture is not there")
        found[round(Curve.parse(key)(0, last, seed))] = Path(value)
    return found
