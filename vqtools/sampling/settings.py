"""What a person may choose about drawing with a transformer, and about scoring a picture.

Knows no network, and imports none: the command line reads it before anything heavy is loaded.
"""

from __future__ import annotations

from typing import Literal

from vqtools.core.settings import Settings, Size, network_option, option, seed_option, size_option

Side = Literal["upper", "lower", "left", "right", "whole"]


class SampleSettings(Settings):
    prompt: str = option("", help="what the picture should show, for a transformer that reads captions", live=False)
    size: Size = size_option()
    seed: int | None = seed_option()
    transformer: str = network_option("name or path of the transformer that draws the codes")
    vqgan: str = network_option("name or path of the VQGAN that makes them a picture", short=("ckpt",))
    clip: str = network_option("name of the CLIP that reads the prompt", short=("m",))
    label: str = option("", help="name or number of a class, for a transformer with classes", live=False)
    temperature: float = option(
        1.0, help="below 1 likelier codes, above 1 bolder ones; 0 always takes the likeliest", ge=0, le=10
    )
    top_k: int = option(0, help="draw among so many of the likeliest codes; 0 for all", ge=0)
    top_p: float = option(0.85, help="draw among the likeliest codes that together have this probability", gt=0, le=1)
    guidance: float = option(
        6.0, help="how strongly prompt or class pull; 1 for not more than the transformer itself does", ge=0, le=50
    )
    grids: int = option(
        1,
        help="how many are drawn at a time; above 1 the CLIP keeps the one that fits the prompt best",
        ge=1,
        le=64,
        live=False,
        flag_name="candidates",
    )
    stride: int = option(
        1,
        help="codes for which the window stands still; 1 is exact, more is faster and not exact",
        ge=1,
        le=64,
        live=False,
    )
    condition: str = option(
        "",
        help="a picture file that the transformer draws from, for one trained on pairs: scaled and cut to the size",
        group="given",
        live=False,
    )
    complete: str = option("", help="a picture file that is given; the rest is drawn", group="given", live=False)
    keep: Side = option(
        "upper", help="the half of it that stays; whole sets it into a larger size", group="given", live=False
    )
    place: Literal["center", "left", "right", "top", "bottom"] = option(
        "center", help="where the whole picture stands; it grows on the other sides", group="given", live=False
    )
    mask: str = option(
        "", help="a picture of the same size that is light where the given one is drawn anew", group="given", live=False
    )
    seamless: bool = option(False, help="a panorama whose right border joins its left one", group="given", live=False)
    memory: float = option(
        2.0,
        help="most that the transformer's caches take; more is faster",
        unit="GB",
        group="advanced",
        ge=0,
        live=False,
    )
    precision: Literal["fp32", "auto", "bf16", "fp16"] = option(
        "fp32", help="of the transformer; all but fp32 are faster and not exact", group="advanced", live=False
    )


class ScoreSettings(Settings):
    transformer: str = network_option("name or path of the transformer that judges")
    vqgan: str = network_option("name or path of the VQGAN that makes the picture codes", short=("ckpt",))
    label: str = option("", help="name or number of a class, for a transformer with classes")
    condition: str = option("", help="a picture file that it belongs to, for a transformer trained on pairs")
    stride: int = option(
        1, help="codes for which the window stands still; 1 judges as exact sampling draws, more is faster", ge=1, le=64
    )
