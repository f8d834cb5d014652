"""Settings of a painting: the source of the command's flags, the form and the record inside a PNG.

Knows fields and their checks; imports neither networks nor torch, because the command line reads it for every --help.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import ValidationInfo, field_validator, model_validator

from vqtools.core.settings import Settings, Size, network_option, option, seed_option, size_option
from vqtools.painting.parsers import AUGMENTATIONS, parse_area, parse_augment, parse_clips, parse_palette, parse_regions
from vqtools.painting.prompts import parse_prompts

CutMethod = Literal["random", "pooled", "overview", "whole"]
Optimiser = Literal["Adam", "AdamW", "RAdam", "NAdam", "Adamax", "Adagrad", "RMSprop"]
Symmetry = Literal["none", "left-right", "top-bottom", "both"]

PRESETS: dict[str, dict[str, int]] = {
    "draft": {"iterations": 30, "cutouts": 6},
    "normal": {"iterations": 100, "cutouts": 8},
    "better": {"iterations": 200, "cutouts": 16},
    "best": {"iterations": 400, "cutouts": 24},
}


def matching_transformer(vqgan: str, clip: str) -> Literal["starter", "none"]:
    """Name of the transformer that draws the start for a VQGAN and a CLIP: the starter fits the starter pair alone."""
    return "starter" if vqgan == clip == "starter" else "none"


# fields whose text has a grammar, and the functions that raise UserError if it cannot be parsed
_PARSERS: dict[str, Callable[[str], object]] = {
    "prompt": parse_prompts,
    "regions": parse_regions,
    "protect": parse_area,
    "clip": parse_clips,
    "palette": parse_palette,
    "augment": parse_augment,
}


class PaintSettings(Settings):
    """Settings of `vqtools paint`; a preset sets the fields of PRESETS that are not set explicitly."""

    prompt: str = option(
        "a red apple",
        help="what the picture should show: texts, or picture:FILE, separated by |, each with "
        ":weight:stop; a negative weight is a negative prompt",
    )
    preset: Literal["draft", "normal", "better", "best"] = option(
        "normal",
        help="size, iterations and cutouts together, scaled to this machine (vqtools presets shows"
        " them); each can still be set separately",
    )
    size: Size = size_option()
    iterations: int = option(
        100, help="optimisation steps under CLIP guidance", short=("i",), quick=3, ge=1, le=100_000
    )
    seed: int | None = seed_option()
    init_image: str = option(
        "",
        help="start from a picture file instead of the transformer's candidates",
        group="start from",
        short=("ii",),
        live=False,
    )
    init_weight: float = option(
        0.0,
        help="how firmly the result stays close to the initial latents, as the weight of MSE(z, "
        "z_init) / 2; 0 does not hold it, higher values act like a lower denoising strength",
        group="start from",
        short=("iw",),
        ge=0,
    )
    init_decay: float = option(
        1.0,
        help="fraction of init_weight that is left at the last iteration: 1 keeps it constant, "
        "0.01 releases the picture gradually",
        group="start from",
        gt=0,
        le=1,
    )
    init: Literal["auto", "sample", "codes", "noise", "gradient"] = option(
        "auto",
        help="initial latents: a sample of the transformer, random codes, coloured noise or a "
        "colour gradient; auto uses init_image if given, else a sample",
        group="start from",
        short=("in",),
        live=False,
    )
    vqgan: str = network_option("name or path of the VQGAN that decodes the picture", short=("ckpt",))
    clip: str = network_option(
        "name of the CLIP that scores the picture, NAME/TAG as in open_clip; several with weights as one:2 | other:0.5",
        short=("m",),
    )
    transformer: str = network_option(
        "name or path of the transformer that samples the candidates; none starts from random codes", group="start from"
    )
    grids: int = option(
        32,
        help="number of candidates that the transformer samples; CLIP keeps the best one",
        group="start from",
        quick=2,
        ge=1,
        le=256,
        live=False,
        flag_name="candidates",
    )
    guidance: float = option(
        4.0,
        help="classifier-free guidance scale of the transformer's candidates; 1 disables it",
        group="start from",
        ge=0,
        le=50,
        live=False,
    )
    top_p: float = option(
        0.85,
        help="nucleus sampling of the candidates: sample from the likeliest codes whose probabilities add up to this",
        group="start from",
        gt=0,
        le=1,
        live=False,
    )
    cutouts: int = option(
        8,
        help="number of random crops scored by CLIP per step",
        group="cutouts",
        short=("cuts",),
        quick=2,
        ge=1,
        le=4096,
    )
    cut_method: CutMethod = option(
        "random",
        help="how crops are taken: random sizes; pooled (random, strong details kept); overview "
        "(some of the whole picture among the crops); whole (all of the whole picture)",
        group="cutouts",
        short=("cutm",),
    )
    cut_power: float = option(
        1.0,
        help="distribution of crop sizes: above 1 more small crops, below 1 more large ones",
        group="cutouts",
        short=("cutp",),
        gt=0,
        le=100,
    )
    augment: str = option(
        AUGMENTATIONS,
        group="cutouts",
        short=("aug",),
        help="augmentations of the crops: Hf horizontal flip, Af affine, Pe perspective, Sh softening, Ji colour"
        " jitter, Gn Gaussian noise, Ro rotation, Er random erasing, Et elastic, Ts thin-plate spline, Cr crop, Re"
        " resized crop",
    )
    optimiser: Optimiser = option("Adam", help="torch optimiser for the latents", group="guidance", short=("opt",))
    learning_rate: float = option(
        0.1,
        help="learning rate for the latents; it is reduced to a tenth in the last quarter of the iterations",
        group="guidance",
        short=("lr",),
        gt=0,
        le=10,
    )
    ema: float = option(
        0.99,
        help="EMA decay of the displayed latents; 0 shows the latents themselves",
        group="guidance",
        ge=0,
        lt=1,
    )
    smoothness: float = option(
        0.0,
        help="weight of the total variation loss; above 0 reduces noise and fine texture",
        group="look",
        ge=0,
        le=1000,
    )
    saturation: float = option(
        0.0,
        help="weight of the saturation loss: above 0 more colourful, below 0 more muted",
        group="look",
        ge=-100,
        le=100,
    )
    palette: str = option("", help="colours to keep to, such as #d62828 #fcbf49 #003049", group="look")
    palette_weight: float = option(
        10.0,
        help="weight of the loss that draws each pixel to the nearest colour of the palette",
        group="look",
        ge=0,
        le=10_000,
    )
    style_image: str = option("", help="a picture file; only codes that occur in it are used", group="look")
    prior: float = option(
        0.0,
        help="weight of the transformer's negative log-likelihood of the codes: 0.03 to 0.1 makes "
        "pictures calmer and simpler, higher values flatten them; steps take about 50 % "
        "longer",
        group="look",
        ge=0,
        le=100,
    )
    symmetry: Symmetry = option("none", help="mirror the picture: left-right, top-bottom or both", group="look")
    seamless: bool = option(False, help="make the picture tileable: opposite edges match", group="look")
    regions: str = option(
        "",
        help="regional prompts, as N=REGION | …: N is the number of the prompt, REGION a box "
        "left,top,right,bottom in 0..1 or a mask file (white is inside), such as 1=0,0,0.5,1 "
        "| 2=mask.png",
        group="regions",
        live=False,
    )
    protect: str = option(
        "", help="region that stays as it started: a box or a mask file, as in regions", group="regions", live=False
    )
    drawer: Literal["vqgan", "pixels"] = option(
        "vqgan",
        help="what renders the picture: the VQGAN, or plain pixels without a codebook, for comparison",
        group="advanced",
        live=False,
        flag_name="renderer",
    )
    group: int = option(
        0,
        help="number of crops per forward pass of CLIP; fewer need less memory; 0 for all at once",
        group="advanced",
        ge=0,
        le=4096,
    )
    checkpoint: Literal["auto", "on", "off"] = option(
        "auto",
        help="gradient checkpointing, to save memory (not a model file; see --vqgan): recompute "
        "decoder activations in the backward pass, about 30 % slower; auto when memory is "
        "short",
        group="advanced",
    )
    compile: bool = option(False, help="use torch.compile: slow start, faster steps", group="advanced")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto",
        help="number format of the networks; auto chooses the faster one that is safe on this machine",
        group="advanced",
        live=False,
    )
    clip_precision: Literal["auto", "same"] = option(
        "auto",
        help="number format of the CLIPs: auto uses fp32 on a CPU; same uses that of the other "
        "networks, which with bf16 is twice as fast and gives a slightly different picture",
        group="advanced",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        preset = values.get("preset") if isinstance(values, dict) else None
        return {**PRESETS[preset], **values} if isinstance(preset, str) and preset in PRESETS else values

    @field_validator(*_PARSERS)
    @classmethod
    def _check_text(cls, value: str, info: ValidationInfo) -> str:
        if value.strip() or info.field_name != "protect":
            _PARSERS[info.field_name or ""](value)
        return value
