"""Settings of sampling from a transformer and of scoring a picture.

Imports no network: the command line reads it before anything heavy is loaded.
"""

from __future__ import annotations

from typing import Literal

from vqtools.core.settings import Settings, Size, network_option, option, seed_option, size_option

Side = Literal["upper", "lower", "left", "right", "whole"]


class SampleSettings(Settings):
    """Settings of `vqtools sample`."""

    prompt: str = option("", help="what the picture should show, for a transformer trained on captions", live=False)
    size: Size = size_option()
    seed: int | None = seed_option()
    transformer: str = network_option("name or path of the transformer that samples the codes")
    vqgan: str = network_option("name or path of the VQGAN that decodes them", short=("ckpt",))
    clip: str = network_option("name of the CLIP that embeds the prompt", short=("m",))
    label: str = option("", help="class name or index, for a class-conditional transformer", live=False)
    temperature: float = option(
        1.0,
        help="sampling temperature: below 1 more likely codes, above 1 more varied ones; 0 always takes the likeliest",
        ge=0,
        le=10,
    )
    top_k: int = option(0, help="sample from the k likeliest codes; 0 for all", ge=0)
    top_p: float = option(
        0.85, help="nucleus sampling: sample from the likeliest codes whose probabilities add up to this", gt=0, le=1
    )
    guidance: float = option(
        6.0, help="classifier-free guidance scale for the prompt or class; 1 disables it", ge=0, le=50
    )
    grids: int = option(
        1,
        help="number of candidates to sample; above 1, CLIP keeps the one that fits the prompt best",
        ge=1,
        le=64,
        live=False,
        flag_name="candidates",
    )
    stride: int = option(
        1,
        help="step of the sliding window in codes: 1 is exact, more is faster and approximate",
        ge=1,
        le=64,
        live=False,
    )
    condition: str = option(
        "",
        help="a picture file as condition, for a transformer trained on pairs; scaled and cropped to the size",
        group="given",
        live=False,
    )
    complete: str = option(
        "", help="a picture file to complete: part of it is kept, the rest is sampled", group="given", live=False
    )
    keep: Side = option(
        "upper",
        help="which half of the given picture is kept; whole places all of it in a larger picture",
        group="given",
        live=False,
    )
    place: Literal["center", "left", "right", "top", "bottom"] = option(
        "center",
        help="where the whole picture is placed; the picture grows on the other sides",
        group="given",
        live=False,
    )
    mask: str = option(
        "",
        help="a mask of the same size as the given picture: light areas are sampled again",
        group="given",
        live=False,
    )
    seamless: bool = option(False, help="make a panorama whose left and right edges match", group="given", live=False)
    memory: float = option(
        2.0,
        help="upper limit for the transformer's key-value caches; more is faster",
        unit="GB",
        group="advanced",
        ge=0,
        live=False,
    )
    precision: Literal["fp32", "auto", "bf16", "fp16"] = option(
        "fp32",
        help="number format of the transformer; all but fp32 are faster and approximate",
        group="advanced",
        live=False,
    )


class ScoreSettings(Settings):
    """Settings of `vqtools score`."""

    transformer: str = network_option("name or path of the transformer that computes the likelihood")
    vqgan: str = network_option("name or path of the VQGAN that encodes the picture", short=("ckpt",))
    label: str = option("", help="class name or index, for a class-conditional transformer")
    condition: str = option("", help="a picture file as condition, for a transformer trained on pairs")
    stride: int = option(
        1, help="step of the sliding window in codes: 1 uses the windows of exact sampling, more is faster", ge=1, le=64
    )
