"""Settings of animations, morphs and flights: the source of the flags, the forms and the frames' records.

Imports no heavy library: the command line reads it first.
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
    # the shift keeps the centre in place while the camera rotates
    "orbit": {"rotation_3d_y": "0.8*cos(2*pi*t/48)", "translation_x": "0.0192*h*cos(2*pi*t/48)"},
    "drift": {"translation_x": "-0.006*w", "translation_y": "0.002*h*sin(2*pi*t/60)"},
    "breathe": {"zoom": "1+0.012*sin(2*pi*t/48)"},
    "tunnel": {"zoom": "1.035", "angle": "1.5*sin(2*pi*t/60)", "rotation_3d_x": "0.3*cos(2*pi*t/40)"},
}
SIZE_VARIABLES = ("w", "h")  # variables beside Deforum's: the frame's width and height in pixels
CURVE_FIELDS = (*IDENTITY_MOTION, "fov", "centre_x", "centre_y", "iterations_per_frame", "noise_schedule", "antiblur")
# an octave zoom's levels are fixed once it is begun, so only what its remaining pictures show can change
OCTAVE_ZOOM_LIVE_FIELDS = frozenset({"prompt", "prompts_at", "crossfade"})
_NEXT_RUN_FIELDS = frozenset({
    "size", "frames", "fps", "seed", "vqgan", "clip", "transformer", "grids", "precision", "clip_precision", "compile",
    "iterations", "preset", "format",
})  # fmt: skip


def _curve_option(default: str, *, help: str, unit: str = "", group: str = "motion") -> Any:
    return option(default, help=help, unit=unit, group=group, widget="curve")


def _number_to_text(value: Any) -> Any:
    """A curve that is given as a number, as text; anything else unchanged."""
    return repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


class AnimateSettings(PaintSettings):
    """Settings of `vqtools animate`: those of a painting, and how its frames follow each other."""

    prompt: str = option(
        "a red apple",
        help="what the video shows; separate scenes with ^, and prompts within a scene as in "
        "vqtools paint; {} is replaced by each text of prompts_at",
    )
    frames: int = option(60, help="number of frames", quick=4, ge=1, le=1_000_000)
    fps: float = option(12.0, help="frames per second", ge=0.1, le=240)
    motion: Literal["none", "zoom in", "zoom out", "dolly", "spin", "orbit", "drift", "breathe", "tunnel"] = option(
        "zoom in", help="a camera motion preset: sets the motion curves together; each can still be set separately"
    )
    octave_zoom: bool = option(
        False,
        help="endless zoom: paint one picture per doubling and resample all frames from them, without flicker",
        live=False,
    )
    iterations: int = option(
        100,
        help="optimisation steps for the first picture, or for each picture of an octave zoom",
        short=("i",),
        quick=3,
        ge=1,
        le=100_000,
        live=False,
    )
    video: str = option(
        "",
        help="a video file to restyle frame by frame; its motion replaces the camera, and its sound is kept",
        group="your video",
        live=False,
    )
    anchor: float = option(
        0.2,
        help="with --video: image that each frame starts from: 1 is the input video's frame, 0 is "
        "the previous output warped by the optical flow, values between blend both",
        group="your video",
        ge=0,
        le=1,
    )
    audio: str = option(
        "",
        help="a sound file: it becomes the soundtrack, and curves can use variables computed from "
        "it (audio-reactive motion)",
        group="audio",
    )
    iterations_per_frame: str = _curve_option("10", help="optimisation steps per painted frame", group="basic")
    prompts_at: str = option(
        "",
        help='prompts by frame {"0": "a forest", "120": "a city"}, weight curves \'apple\': {10: 1, '
        "20: 0}, or an .lrc or .srt file",
        group="prompts by time",
    )
    crossfade: int = option(
        12, help="number of frames over which one prompt fades into the next", group="prompts by time", ge=0
    )
    scene_frames: int = option(
        0,
        help="number of frames per scene; after the last scene (see ^) the first one follows "
        "again; 0 divides all frames evenly among the scenes",
        group="prompts by time",
        ge=0,
    )
    init_images_at: str = option(
        "", help='pictures that replace the frame at a given number: {"60": "b.png"}', group="prompts by time"
    )
    zoom: str = _curve_option("1.02", help="zoom factor per frame; above 1 zooms in")
    angle: str = _curve_option("0", help="rotation in the picture plane, counter-clockwise", unit="degrees per frame")
    translation_x: str = _curve_option("0", help="shift to the right", unit="pixels per frame")
    translation_y: str = _curve_option("0", help="shift down", unit="pixels per frame")
    translation_z: str = _curve_option("0", help="camera movement towards the picture", unit="1/200 of the distance")
    rotation_3d_x: str = _curve_option("0", help="camera pitch, upwards", unit="degrees per frame")
    rotation_3d_y: str = _curve_option("0", help="camera yaw, to the right", unit="degrees per frame")
    rotation_3d_z: str = _curve_option(
        "0", help="camera roll: the picture turns counter-clockwise", unit="degrees per frame"
    )
    fov: str = _curve_option("40", help="field of view", unit="degrees")
    centre_x: str = _curve_option("0.5", help="centre of zoom and rotation", unit="fraction of the width")
    centre_y: str = _curve_option("0.5", help="centre of zoom and rotation", unit="fraction of the height")
    interpolation: Literal["linear", "smooth", "step"] = option(
        "linear", help="interpolation between keyframes", group="motion"
    )
    border: Literal["reflect", "replicate", "wrap", "zeros", "outpaint"] = option(
        "reflect",
        help="how areas that enter the frame are filled; outpaint lets the transformer sample them",
        group="motion",
    )
    depth: str = option(
        "",
        help="depth estimation network of the transformers library, a folder or name: near things move more",
        group="motion",
        live=False,
    )
    moves: Literal["picture", "latents"] = option(
        "picture",
        help="what the camera motion is applied to: the picture, which is encoded again, or the grid of latents",
        group="motion",
    )
    cadence: int = option(
        1,
        help="paint every n-th frame and interpolate the frames between: both neighbours are "
        "warped along the motion and blended",
        group="steadiness",
        ge=1,
        le=100,
    )
    loop: bool = option(
        False,
        help="make the last frame lead into the first; with --octave-zoom the picture contains a "
        "smaller copy of itself, and the loop takes a whole number of doublings",
        group="steadiness",
        live=False,
    )
    carry: bool = option(
        True,
        help="warp the optimiser's state with the picture instead of resetting it for each frame",
        group="steadiness",
    )
    frame_learning_rate: float = option(
        0.25, help="learning rate of the latents for frames after the first", group="steadiness", gt=0, le=10
    )
    hold: float = option(
        0.3,
        help="strength of the previous, warped frame in each new one: 0 none, 0.9 almost "
        "unchanged; the counterpart of Deforum's strength (1 − denoising strength)",
        group="steadiness",
        ge=0,
        lt=1,
    )
    ema: float = option(
        0.9,
        help="EMA decay of the displayed latents; 0 shows the latents themselves",
        group="steadiness",
        ge=0,
        lt=1,
    )
    init_weight: float = option(
        0.0,
        help="keep each frame close to the previous frame's latents, as the weight of MSE(z, z_init) / 2",
        group="steadiness",
        short=("iw",),
        ge=0,
    )
    color_coherence: Literal["none", "LAB"] = option(
        "none", help="LAB matches each frame's colour statistics to the first frame's", group="steadiness"
    )
    noise_schedule: str = _curve_option(
        "0", help="noise added per frame, moving with the picture; 1 is full contrast", group="steadiness"
    )
    antiblur: str = _curve_option(
        "0.7", help="unsharp mask applied to the warped frame, against blur that builds up", group="steadiness"
    )
    clarity: float = option(
        0.6,
        help="unsharp mask applied to the saved frames only; it does not accumulate",
        group="steadiness",
        ge=0,
        le=3,
    )
    seed_behavior: Literal["run", "iter", "fixed"] = option(
        "run",
        help="seed of each frame's crops and noise: run (one random sequence through the whole "
        "run), iter (seed + frame number), fixed (the same seed for every frame)",
        group="steadiness",
    )
    format: Literal["mp4", "webm", "gif"] = option("mp4", help="video format", group="video")
    out_fps: float | None = option(
        None,
        help="frame rate of the video file, above --fps; --between must say how the additional frames are made",
        group="video",
        ge=0.1,
        le=240,
    )
    between: Literal["none", "blend", "flow"] = option(
        "none",
        help="how the additional frames of --out-fps are interpolated: blend (cross-fade), or flow"
        " (warped along the optical flow)",
        group="video",
    )
    crf: int = option(
        17, help="video quality (constant rate factor): lower is better and larger", group="video", ge=0, le=50
    )
    odd_sides: Literal["pad", "crop"] = option(
        "pad", help="what to do with an odd width or height: pad by one row of pixels, or crop one", group="video"
    )

    @model_validator(mode="before")
    @classmethod
    def _apply_motion_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        motion = values.get("motion")
        if not isinstance(motion, str) or motion not in MOTION_PRESETS:
            return values
        return {**IDENTITY_MOTION, **MOTION_PRESETS[motion], **values}

    @field_validator(*CURVE_FIELDS, mode="before")
    @classmethod
    def _stringify_numbers(cls, value: Any) -> Any:
        return _number_to_text(value)

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
            raise UserError("octave_zoom and seamless at once: a picture that contains others cannot be tiled")
        if self.video and (self.octave_zoom or self.loop or self.seamless):
            other = "octave_zoom" if self.octave_zoom else "loop" if self.loop else "seamless"
            raise UserError(f"video and {other} at once: the video decides how it moves and ends")
        if self.depth and (self.octave_zoom or self.video or self.seamless or self.border == "outpaint"):
            raise UserError("depth is for the camera alone: not with octave_zoom, video, seamless or border outpaint")
        if self.depth and self.moves == "latents":
            raise UserError("depth and moves latents at once: depth needs pixels; choose moves picture")
        if self.seamless and self.border == "outpaint":
            raise UserError("seamless and border outpaint at once: a tile enters again on its other side")
        return self

    def quick(self) -> Self:
        """With VQTOOLS_QUICK=1, also few guidance steps per frame, and every frame painted."""
        smaller = super().quick()
        if not quick_requested():
            return smaller
        return smaller.model_copy(update={"iterations_per_frame": "2", "cadence": 1})


STEERABLE_FIELDS = frozenset(option.name for option in AnimateSettings.options() if option.live) - _NEXT_RUN_FIELDS
"""Fields that can change between two frames of a running animation. An octave zoom has fewer of them."""


class VideoSettings(Settings):
    """Settings that morphs and flights share: size, length and format."""

    size: Size = option((384, 384), help="width and height of the video", unit="pixels", short=("s",), ge=2, le=8192)
    frames: int = option(72, help="number of frames", quick=4, ge=1, le=1_000_000)
    fps: float = option(24.0, help="frames per second", ge=0.1, le=240)
    format: Literal["mp4", "webm", "gif"] = option("mp4", help="video format", group="video")
    audio: str = option("", help="a sound file for the video", group="video")
    crf: int = option(
        17, help="video quality (constant rate factor): lower is better and larger", group="video", ge=0, le=50
    )


class MorphSettings(VideoSettings):
    """Settings of `vqtools morph`."""

    size: Size = option(
        (256, 256), help="width and height, multiples of the VQGAN's f", unit="pixels", short=("s",), ge=2, le=8192
    )
    vqgan: str = network_option(
        "name or path of the VQGAN in whose latent space the pictures are interpolated", short=("ckpt",)
    )
    hold: float = option(
        0.2,
        help="fraction of each picture's share of the video during which it stands still before the transition",
        ge=0,
        lt=1,
    )
    loop: bool = option(False, help="return to the first picture at the end")
    whole_codes: bool = option(
        False, help="quantise every frame to codes of the codebook: frames jump between codes instead of fading"
    )


class FlySettings(VideoSettings):
    """Settings of `vqtools fly`."""

    zoom: str = option(
        "4**(t/max_f)",
        help="zoom factor: 1 shows as much as fits, 4 a quarter of it; t is the frame, max_f the last one",
    )
    x: str = option(
        "0.5", help="horizontal centre of the view: 0 is the left edge, 1 the right edge", unit="fraction of the width"
    )
    y: str = option(
        "0.5", help="vertical centre of the view: 0 is the top edge, 1 the bottom edge", unit="fraction of the height"
    )
    interpolation: Literal["linear", "smooth", "step"] = option("smooth", help="interpolation between keyframes")

    @field_validator("zoom", "x", "y", mode="before")
    @classmethod
    def _stringify_numbers(cls, value: Any) -> Any:
        return _number_to_text(value)

    @field_validator("zoom", "x", "y")
    @classmethod
    def _validate_curves(cls, value: str) -> str:
        Curve.parse(value)
        return value
