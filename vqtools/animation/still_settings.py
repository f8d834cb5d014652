"""What a person may choose about films of pictures that are there: morphs and flights.

Knows no network, and imports none.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator

from vqtools.animation.keyframes import Curve
from vqtools.settings import Settings, Size, network_option, option


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
