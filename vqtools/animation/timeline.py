"""All curves of one animation as numbers per frame, checked for every frame before anything starts.

Knows settings and numbers; nothing about images.
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

_MAX_ITERATIONS = 10_000  # per frame
_MAX_CHECKED_FRAMES = 2_000  # longer animations are checked at this many evenly spaced frames


class FrameParameters(NamedTuple):
    """The numbers of one frame. ``motion`` leads from the frame before to it."""

    motion: Motion
    iterations: int
    noise: float
    antiblur: float


class Timeline:
    """The settings' curves; call it with a frame number for that frame's numbers.

    audio: features of the settings' audio file, which is analysed if they are not given.
    """

    def __init__(self, settings: AnimateSettings, seed: int, audio: AudioFeatures | None = None) -> None:
        self.last_frame, self.seed = settings.frames - 1, seed
        self.size_variables = dict(zip(SIZE_VARIABLES, map(float, settings.size), strict=True))
        self.audio = analyse_audio(settings.audio, settings.fps) if settings.audio and audio is None else audio
        names = (*SIZE_VARIABLES, *AUDIO_VARIABLES) if self.audio is not None else SIZE_VARIABLES
        self.curves = {
            name: Curve.parse(getattr(settings, name), interpolation=settings.interpolation, variables=names)
            for name in CURVE_FIELDS
        }
        self.prompt_schedule: PromptSchedule = parse_prompt_schedule(
            settings.prompt,
            settings.prompts_at,
            frames=settings.frames,
            fps=settings.fps,
            crossfade=settings.crossfade,
            scene_frames=settings.scene_frames,
            seed=seed,
            audio=self.audio,
        )
        self.init_images = _parse_init_images(settings.init_images_at, self.last_frame, seed)

    def __call__(self, frame: int) -> FrameParameters:
        """Evaluate all curves at a frame in [0, last_frame]."""
        variables = {**self.size_variables, **(self.audio(frame) if self.audio is not None else {})}
        value = {name: curve(frame, self.last_frame, self.seed, **variables) for name, curve in self.curves.items()}
        return FrameParameters(
            Motion(*(value[name] for name in Motion._fields)),
            min(_MAX_ITERATIONS, max(0, round(value["iterations_per_frame"]))),
            max(0.0, value["noise_schedule"]),
            max(0.0, value["antiblur"]),
        )

    def prompt(self, frame: int) -> str:
        """The prompt at a frame, as a Painter reads it."""
        return self.prompt_schedule(frame)

    def check(self, size: tuple[int, int]) -> None:
        """Raise UserError for the first frame whose numbers, motion or prompt are not valid for this image size."""
        for frame in range(0, self.last_frame + 1, -(-(self.last_frame + 1) // _MAX_CHECKED_FRAMES)):
            try:
                homography(self(frame).motion, *size)
                self.prompt_schedule(frame)
            except UserError as error:
                raise type(error)(f"frame {frame}: {error}") if type(error) is UserError else error from None


def _parse_init_images(text: str, last: int, seed: int) -> dict[int, Path]:
    """The paths of images by the frame at which they replace the animation's own."""
    if not text.strip():
        return {}
    images = {}
    for key, value in parse_mapping(text):
        if not isinstance(value, str) or not Path(value).is_file():
            raise UserError(f"init_images_at {shorten(value)}: the picture is not there")
        images[round(Curve.parse(key)(0, last, seed))] = Path(value)
    return images
