"""What a person may choose about an animation: the source of the command's flags, the form and the frames' record.

Knows no network, and imports none: the command line reads it before anything heavy is loaded.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import ValidationInfo, field_validator, model_validator

from vqtools.animation.audio import AUDIO_VARIABLES
from vqtools.animation.keyframes import Curve
from vqtools.core.errors import UserError
from vqtools.core.settings import Settings, Size, network_option, option, quick_requested
from vqtools.painting.prompts import parse_prompts
from vqtools.painting.settings import PaintSettings

IDENTITY_MOTION = {
    "zoom": "1", "angle": "0", "translation_x": "0", "translation_y": "0", "translation_z": "0",
    "rotation_3d_x": "0", "rotation_3d_y": "0", "rotation_3d_z": "0",
}  # fmt: skip
MOTION_PRESETS: dict[str, dict[str, str]] = {
    "none": {},
    "zoom in": {"zoom": "1.02"},
    "zoom out": {"zoom": "0.98"},
    "dolly": {"translation_z": "4"},
    "spin": {"angle": "2", "zoom": "1.005"},
    # the shift keeps the middle where it is while the camera turns
    "orbit": {"rotation_3d_y": "0.8*cos(2*pi*t/48)", "translation_x": "0.0192*h*cos(2*pi*t/48)"},
    "drift": {"translation_x": "-0.006*w", "translation_y": "0.002*h*sin(2*pi*t/60)"},
    "breathe": {"zoom": "1+0.012*sin(2*pi*t/48)"},
    "tunnel": {"zoom": "1.035", "angle": "1.5*sin(2*pi*t/60)", "rotation_3d_x": "0.3*cos(2*pi*t/40)"},
}
SIZE_VARIABLES = ("w", "h")  # variables beside Deforum's: the picture's width and height in pixels
CURVE_FIELDS = (*IDENTITY_MOTION, "fov", "centre_x", "centre_y", "iterations_per_frame", "noise_schedule", "antiblur")

# an octave zoom's levels are fixed once it is begun, so only what its remaining pictures show can change
OCTAVE_ZOOM_LIVE_FIELDS = frozenset({"prompt", "prompts_at", "crossfade"})
_NEXT_RUN_FIELDS = frozenset({
    "size", "frames", "fps", "seed", "vqgan", "clip", "transformer", "grids", "precision", "clip_precision", "compile",
    "iterations", "preset", "format",
})  # fmt: skip


def _curve_option(default: str, *, help: str, unit: str = "", group: str = "motion") -> Any:
    return option(default, help=help, unit=unit, group=group, widget="curve")


class AnimateSettings(PaintSettings):
    prompt: str = option(
        "a red apple",
        help="what is shown, as in paint; ^ separates scenes, {} is filled by each text of prompts_at",
    )
    frames: int = option(60, help="how many frames", quick=4, ge=1, le=1_000_000)
    fps: float = option(12.0, help="frames a second", ge=0.1, le=240)
    motion: Literal["none", "zoom in", "zoom out", "dolly", "spin", "orbit", "drift", "breathe", "tunnel"] = option(
        "zoom in", help="sets the motion's curves together; each can still be set by itself"
    )
    octave_zoom: bool = option(
        False, help="one picture a doubling, all frames resampled from them: nothing flickers", live=False
    )
    iterations: int = option(
        100, help="steps of guidance for the first picture, and each of an octave zoom", short=("i",), quick=3, ge=1,
        le=100_000, live=False,
    )  # fmt: skip
    video: str = option(
        "", help="your own film, painted over frame by frame: it moves instead of the camera, and its sound is kept",
        group="your film", live=False,
    )  # fmt: skip
    anchor: float = option(
        0.2, help="share of the film's own frame that each frame begins with; the rest follows what moved in it",
        group="your film", ge=0, le=1,
    )  # fmt: skip
    audio: str = option("", help="a sound file: curves may use its variables, the video gets its sound", group="sound")
    iterations_per_frame: str = _curve_option("10", help="steps of guidance on each painted frame", group="basic")
    prompts_at: str = option(
        "",
        help='texts by frame {"0": "a forest", "120": "a city"}, weights \'apple\': {10: 1, 20: 0}, or an .lrc or .srt',
        group="prompts by time",
    )
    crossfade: int = option(12, help="frames over which one text fades into the next", group="prompts by time", ge=0)
    scene_frames: int = option(
        0, help="frames a scene of ^, over and over; 0 shares the frames evenly", group="prompts by time", ge=0
    )
    init_images_at: str = option("", help='pictures that come in at a frame: {"60": "b.png"}', group="prompts by time")
    zoom: str = _curve_option("1.02", help="size of the last frame in the next; above 1 goes in")
    angle: str = _curve_option("0", help="turn, counter-clockwise", unit="degrees a frame")
    translation_x: str = _curve_option("0", help="shift to the right", unit="pixels a frame")
    translation_y: str = _curve_option("0", help="shift down", unit="pixels a frame")
    translation_z: str = _curve_option("0", help="way towards the picture", unit="1/200 of the distance")
    rotation_3d_x: str = _curve_option("0", help="the camera tilts up", unit="degrees a frame")
    rotation_3d_y: str = _curve_option("0", help="the camera turns right", unit="degrees a frame")
    rotation_3d_z: str = _curve_option("0", help="the picture turns counter-clockwise", unit="degrees a frame")
    fov: str = _curve_option("40", help="angle of view", unit="degrees")
    centre_x: str = _curve_option("0.5", help="what zoom and angle turn about", unit="share of the width")
    centre_y: str = _curve_option("0.5", help="what zoom and angle turn about", unit="share of the height")
    interpolation: Literal["linear", "smooth", "step"] = option(
        "linear", help="between the numbers of a curve", group="motion"
    )
    border: Literal["reflect", "replicate", "wrap", "zeros", "outpaint"] = option(
        "reflect", help="what comes in at the sides; outpaint has the transformer draw it", group="motion"
    )
    depth: str = option(
        "", help="a depth network of the transformers library, its folder or name: what is near then moves more",
        group="motion", live=False,
    )  # fmt: skip
    moves: Literal["picture", "latents"] = option(
        "picture", help="what the camera moves: the picture, encoded again, or the grid of latents", group="motion"
    )
    cadence: int = option(
        1, help="paints every nth frame; those between are carried along and blended", group="steadiness", ge=1, le=100
    )
    loop: bool = option(
        False, help="the end runs into the beginning; an octave zoom then holds itself, after whole doublings",
        group="steadiness", live=False,
    )  # fmt: skip
    carry: bool = option(
        True, help="Adam's memory moves along with the picture, and is not forgotten at each frame", group="steadiness"
    )
    frame_learning_rate: float = option(
        0.25, help="step size on the latents of the frames after the first", group="steadiness", gt=0, le=10
    )
    hold: float = option(
        0.3, help="share of the last frame, moved, that stays in each frame", group="steadiness", ge=0, lt=1
    )
    ema: float = option(
        0.9, help="how long a memory the average has that is shown: 0 shows the latents themselves", group="steadiness",
        ge=0, lt=1,
    )  # fmt: skip
    init_weight: float = option(
        0.0, help="how strongly a frame is held to the last one's latents", group="steadiness", short=("iw",), ge=0
    )
    color_coherence: Literal["none", "LAB"] = option(
        "none", help="LAB gives each frame the first one's colours", group="steadiness"
    )
    noise_schedule: str = _curve_option(
        "0", help="noise that moves with the world, 1 is full contrast", group="steadiness"
    )
    antiblur: str = _curve_option(
        "0.7", help="unsharp masking of what moves on, against drift to blur", group="steadiness"
    )
    clarity: float = option(
        0.6, help="unsharp masking of what is shown; it does not add up over frames", group="steadiness", ge=0, le=3
    )
    seed_behavior: Literal["run", "iter", "fixed"] = option(
        "run", help="draws go on, begin at seed + frame, or are the same on every frame", group="steadiness"
    )
    format: Literal["mp4", "webm", "gif"] = option("mp4", help="of the video", group="video")
    out_fps: float | None = option(None, help="rate of the video, with frames between", group="video", ge=0.1, le=240)
    between: Literal["none", "blend", "flow"] = option(
        "none", help="how frames between are made: blended, or moved along the optical flow", group="video"
    )
    crf: int = option(17, help="the video's quality: less is better and larger", group="video", ge=0, le=50)
    odd_sides: Literal["pad", "crop"] = option(
        "pad", help="an odd side gets a row of pixels more, or loses one", group="video"
    )

    @model_validator(mode="before")
    @classmethod
    def _apply_motion_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        chosen = values.get("motion")
        filled = (
            {**IDENTITY_MOTION, **MOTION_PRESETS[chosen]}
            if isinstance(chosen, str) and chosen in MOTION_PRESETS
            else {}
        )
        return {**filled, **values}

    @field_validator(*CURVE_FIELDS, mode="before")
    @classmethod
    def _stringify_numbers(cls, value: Any) -> Any:
        return repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator(*CURVE_FIELDS)
    @classmethod
    def _validate_curves(cls, value: str, info: ValidationInfo) -> str:
        Curve.parse(value, variables=(*SIZE_VARIABLES, *AUDIO_VARIABLES) if info.data.get("audio") else SIZE_VARIABLES)
        return value

    @field_validator("prompt")
    @classmethod
    def _validate_prompt(cls, value: str) -> str:
        for scene in value.split("^"):
            if scene.strip():
                parse_prompts(scene)
        return value

    @model_validator(mode="after")
    def _validate_combinations(self) -> Self:
        if (self.between != "none") != (self.out_fps is not None):
            raise UserError("out_fps and between belong together, as in --out-fps 30 --between flow")
        if self.out_fps is not None and self.out_fps <= self.fps:
            raise UserError(f"out_fps {self.out_fps:g}: must be more than fps {self.fps:g}")
        if self.octave_zoom and self.seamless:
            raise UserError("octave_zoom and seamless at once: a picture within a picture is no tile")
        if self.video and (self.octave_zoom or self.loop or self.seamless):
            other = "octave_zoom" if self.octave_zoom else "loop" if self.loop else "seamless"
            raise UserError(f"video and {other} at once: a film of yours moves and ends as it does")
        if self.depth and (self.octave_zoom or self.video or self.seamless or self.border == "outpaint"):
            raise UserError("depth is for the camera alone: not with octave_zoom, video, seamless or border outpaint")
        if self.depth and self.moves == "latents":
            raise UserError("depth and moves latents at once: a cell has no depth; take moves picture")
        if self.seamless and self.border == "outpaint":
            raise UserError("seamless and border outpaint at once: what leaves a tile comes in on its other side")
        return self

    def quick(self) -> Self:
        smaller = super().quick()
        if not quick_requested():
            return smaller
        return smaller.model_copy(update={"iterations_per_frame": "2", "cadence": 1})


STEERABLE_FIELDS = frozenset(option.name for option in AnimateSettings.options() if option.live) - _NEXT_RUN_FIELDS
"""Fields that can change between two frames of a running animation. An octave zoom has fewer of them."""


class VideoSettings(Settings):
    """What every film has: its size and length."""

    size: Size = option((384, 384), help="width and height of the film", unit="pixels", short=("s",), ge=2, le=8192)
    frames: int = option(72, help="how many frames", quick=4, ge=1, le=1_000_000)
    fps: float = option(24.0, help="frames a second", ge=0.1, le=240)
    format: Literal["mp4", "webm", "gif"] = option("mp4", help="of the video", group="video")
    audio: str = option("", help="a sound file that goes along", group="video")
    crf: int = option(17, help="the video's quality: less is better and larger", group="video", ge=0, le=50)


class MorphSettings(VideoSettings):
    size: Size = option(
        (256, 256), help="width and height, multiples of the VQGAN's f", unit="pixels", short=("s",), ge=2, le=8192
    )
    vqgan: str = network_option("name or path of the VQGAN through whose latents the way leads", short=("ckpt",))
    hold: float = option(0.2, help="share of the time in which a picture stands", ge=0, lt=1)
    loop: bool = option(False, help="the last turns into the first again")
    whole_codes: bool = option(
        False, help="every frame from whole codes of the codebook: it jumps from code to code instead of fading"
    )


class FlySettings(VideoSettings):
    zoom: str = option("4**(t/max_f)", help="1 sees all that fits, 4 a quarter of it; t is the frame, max_f the last")
    x: str = option("0.5", help="what is in the middle, from the left", unit="share of the width")
    y: str = option("0.5", help="what is in the middle, from the top", unit="share of the height")
    interpolation: Literal["linear", "smooth", "step"] = option("smooth", help="between the numbers of a curve")

    @field_validator("zoom", "x", "y", mode="before")
    @classmethod
    def _stringify_numbers(cls, value: Any) -> Any:
        return repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator("zoom", "x", "y")
    @classmethod
    def _validate_curves(cls, value: str) -> str:
        Curve.parse(value)
        return value
