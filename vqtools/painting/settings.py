"""What a person may choose about a painting: the source of the command's flags, the form and the PNG's record.

Knows no network, and imports none: the command line reads it before anything heavy is loaded.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator, model_validator

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


class PaintSettings(Settings):
    prompt: str = option(
        "a red apple",
        help="what the picture should show: texts, or picture:FILE, separated by |, each with :weight:stop; a negative"
        " weight repels",
    )
    preset: Literal["draft", "normal", "better", "best"] = option(
        "normal",
        help="size, iterations and cutouts together, as this machine has time for them (vqtools presets measures it);"
        " each can still be set by itself",
    )
    size: Size = size_option()
    iterations: int = option(100, help="steps of guidance", short=("i",), quick=3, ge=1, le=100_000)
    seed: int | None = seed_option()
    init_image: str = option("", help="a picture file to start from", group="start from", short=("ii",), live=False)
    init_weight: float = option(
        0.0,
        help="w in w/2 · mean((z − z_init)²), which holds the latents to those it started from",
        group="start from",
        short=("iw",),
        ge=0,
    )
    init_decay: float = option(
        1.0,
        help="what is left of init_weight at the end: 1 keeps it, 0.01 lets the picture go bit by bit",
        group="start from",
        gt=0,
        le=1,
    )
    init: Literal["auto", "sample", "codes", "noise", "gradient"] = option(
        "auto",
        help="what to begin with: the transformer's sample, random codes, coloured noise or a colour gradient; auto"
        " takes the init_image, else the sample",
        group="start from",
        short=("in",),
        live=False,
    )
    vqgan: str = network_option("name or path of the VQGAN that draws", short=("ckpt",))
    clip: str = network_option(
        "name of the CLIP that judges, NAME/TAG as open_clip has it; several as one:2 | other:0.5", short=("m",)
    )
    transformer: str = network_option(
        "name or path of the transformer that draws the start; none begins with random codes", group="start from"
    )
    grids: int = option(
        32,
        help="how many starts the transformer draws; the CLIP chooses",
        group="start from",
        quick=2,
        ge=1,
        le=256,
        live=False,
        flag_name="candidates",
    )
    guidance: float = option(
        4.0,
        help="classifier-free guidance scale of the transformer's candidates; 1 for none",
        group="start from",
        ge=0,
        le=50,
        live=False,
    )
    top_p: float = option(
        0.85,
        help="the transformer samples from the likeliest codes that together have this probability",
        group="start from",
        gt=0,
        le=1,
        live=False,
    )
    cutouts: int = option(
        8,
        help="views of the picture that the CLIP sees at each step",
        group="cutouts",
        short=("cuts",),
        quick=2,
        ge=1,
        le=4096,
    )
    cut_method: CutMethod = option(
        "random",
        help="views of random sizes, the same with strong details kept (pooled), a few of the whole among details"
        " (overview), or all of the whole",
        group="cutouts",
        short=("cutm",),
    )
    cut_power: float = option(
        1.0,
        help="above 1 small cutouts are more frequent, below 1 large ones",
        group="cutouts",
        short=("cutp",),
        gt=0,
        le=100,
    )
    augment: str = option(
        AUGMENTATIONS,
        group="cutouts",
        short=("aug",),
        help="what happens to cutouts: Hf flip, Af turn and shift, Pe perspective, Sh softening, Ji colour, Gn noise,"
        " Ro turn alone, Er a part erased, Et elastic, Ts bent, Cr cut closer, Re cut closer and stretched",
    )
    optimiser: Optimiser = option("Adam", help="how a gradient becomes a step", group="guidance", short=("opt",))
    learning_rate: float = option(
        0.1,
        help="step size on the latents; a tenth of it in the last quarter",
        group="guidance",
        short=("lr",),
        gt=0,
        le=10,
    )
    ema: float = option(
        0.99,
        help="how long a memory the average has that is shown: 0 shows the latents themselves",
        group="guidance",
        ge=0,
        lt=1,
    )
    smoothness: float = option(
        0.0, help="weight of the total variation: above 0 evens out small differences", group="look", ge=0, le=1000
    )
    saturation: float = option(0.0, help="above 0 draws colours out, below 0 mutes them", group="look", ge=-100, le=100)
    palette: str = option("", help="colours to keep to, as #d62828 #fcbf49 #003049", group="look")
    palette_weight: float = option(
        10.0, help="how strongly pixels are drawn to the nearest colour of the palette", group="look", ge=0, le=10_000
    )
    style_image: str = option("", help="a picture file: only the codes that it uses are painted with", group="look")
    prior: float = option(
        0.0,
        help="weight of how unlikely the transformer finds the picture's codes: 0.03 to 0.1 calm and simplify, more"
        " flattens; a step takes half as long again",
        group="look",
        ge=0,
        le=100,
    )
    symmetry: Symmetry = option("none", help="which halves mirror each other", group="look")
    seamless: bool = option(False, help="the picture's edges fit each other, as a tile's do", group="look")
    regions: str = option(
        "",
        help="where each prompt counts: its number and a box of left,top,right,bottom from 0 to 1, or a file whose"
        " white counts, as 1=0,0,0.5,1 | 2=mask.png; elsewhere it is not looked for",
        group="regions",
        live=False,
    )
    protect: str = option("", help="what stays as it began: such a box, or such a file", group="regions", live=False)
    drawer: Literal["vqgan", "pixels"] = option(
        "vqgan",
        help="what draws: the VQGAN, or bare pixels, to see why codes matter",
        group="advanced",
        live=False,
        flag_name="renderer",
    )
    group: int = option(
        0,
        help="cutouts that go through the CLIP at a time, fewer for less memory; 0 for all at once",
        group="advanced",
        ge=0,
        le=4096,
    )
    checkpoint: Literal["auto", "on", "off"] = option(
        "auto",
        help="whether the VQGAN forgets its way and goes it again: a third slower, a fraction of the memory; auto when"
        " memory is short",
        group="advanced",
    )
    compile: bool = option(False, help="let torch compile the networks: slow to begin, then quicker", group="advanced")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto", help="of the networks; auto takes the quicker one that is safe here", group="advanced", live=False
    )

    clip_precision: Literal["auto", "same"] = option(
        "auto",
        help="of the CLIPs: auto is fp32 on a CPU, same is that of the other networks: twice as quick with bf16, and a"
        " slightly other picture",
        group="advanced",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        chosen = values.get("preset") if isinstance(values, dict) else None
        return {**PRESETS[chosen], **values} if isinstance(chosen, str) and chosen in PRESETS else values

    @field_validator("prompt")
    @classmethod
    def _prompt_can_be_read(cls, value: str) -> str:
        parse_prompts(value)
        return value

    @field_validator("regions")
    @classmethod
    def _regions_can_be_read(cls, value: str) -> str:
        parse_regions(value)
        return value

    @field_validator("protect")
    @classmethod
    def _area_can_be_read(cls, value: str) -> str:
        if value.strip():
            parse_area(value)
        return value

    @field_validator("clip")
    @classmethod
    def _clips_can_be_read(cls, value: str) -> str:
        parse_clips(value)
        return value

    @field_validator("palette")
    @classmethod
    def _colours_can_be_read(cls, value: str) -> str:
        parse_palette(value)
        return value

    @field_validator("augment")
    @classmethod
    def _codes_are_known(cls, value: str) -> str:
        parse_augment(value)
        return value
