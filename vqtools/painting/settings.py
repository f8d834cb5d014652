"""What a person may choose about a painting: the source of the command's flags, the form and the PNG's record.

Knows no network, and imports none: the command line reads it before anything heavy is loaded.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import field_validator, model_validator

from vqtools.painting.prompts import parse_prompts
from vqtools.settings import Settings, Size, UserError, network_option, option, seed_option, size_option

AUGMENTATIONS = "Hf Af Pe Sh Ji Gn"  # those that work together
ALL_AUGMENTATIONS = f"{AUGMENTATIONS} Ro Er Et Ts Cr Re"

CutMethod = Literal["random", "pooled", "overview", "whole"]
Optimiser = Literal["Adam", "AdamW", "RAdam", "NAdam", "Adamax", "Adagrad", "RMSprop"]
Symmetry = Literal["none", "left-right", "top-bottom", "both"]

PRESETS: dict[str, dict[str, int]] = {
    "draft": {"iterations": 30, "cutouts": 6},
    "normal": {"iterations": 100, "cutouts": 8},
    "better": {"iterations": 200, "cutouts": 16},
    "best": {"iterations": 400, "cutouts": 24},
}


def parse_augment(augment: str) -> frozenset[str]:
    """The codes named in ``augment``, separated by spaces or commas, in any case."""
    known = {code.lower(): code for code in ALL_AUGMENTATIONS.split()}
    named = augment.replace(",", " ").split()
    if unknown := [code for code in named if code.lower() not in known]:
        raise UserError(f"augment {unknown[0]!r}: the codes are {ALL_AUGMENTATIONS}, or none for plain cutouts")
    return frozenset(known[code.lower()] for code in named)


def parse_clips(text: str) -> dict[str, float]:
    """``starter | ViT-B-32/openai:0.5`` -> weights by name, in this order."""
    try:
        found = parse_prompts(text)
    except UserError:
        raise UserError(f"clip {text!r}: write a name, or several as one:2 | other:0.5") from None
    if any(one.weight <= 0 for one in found) or len({one.text for one in found}) < len(found):
        raise UserError(f"clip {text!r}: each CLIP once, with a weight of more than 0")
    return {one.text: one.weight for one in found}


def parse_palette(text: str) -> list[tuple[int, int, int]]:
    """``#d62828 #fcbf49`` -> colours of red, green and blue, 0 to 255; at most 64."""
    words = text.replace(",", " ").split()
    if len(words) > 64:
        raise UserError(f"a palette of {len(words)} colours: at most 64")
    for word in words:
        if not re.fullmatch("#[0-9a-fA-F]{6}", word):
            raise UserError(f"{word!r} is no colour; write it as #d62828")
    return [(int(word[1:3], 16), int(word[3:5], 16), int(word[5:7], 16)) for word in words]


Box = tuple[float, float, float, float]
"""Left, top, right, bottom as shares of the picture's sides, 0 to 1."""


def parse_area(text: str) -> Box | str:
    """``0,0,0.5,1`` -> a box; anything that is not four numbers is a file's name."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return text.strip()
    if len(numbers) != 4:
        return text.strip()
    left, top, right, bottom = numbers
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise UserError(
            f"the box {text.strip()} lies outside the picture or is empty; write left,top,right,bottom from 0 to 1"
        )
    return left, top, right, bottom


def parse_regions(text: str) -> dict[int, Box | str]:
    """``1=0,0,0.5,1 | 2=mask.png`` -> an area by the prompt's index, counted from 0 here and from 1 in the text."""
    found: dict[int, Box | str] = {}
    for part in text.split("|") if text.strip() else []:
        number, equals, area = part.partition("=")
        if not (equals and area.strip() and re.fullmatch("[1-9][0-9]{0,2}", number.strip())):
            raise UserError(f"region {part.strip()!r}: write a prompt's number and an area, as in 1=0,0,0.5,1")
        if int(number) - 1 in found:
            raise UserError(f"prompt {int(number)} has two regions; one box or file each")
        found[int(number) - 1] = parse_area(area)
    return found


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
        "vqgan", help="what draws: the VQGAN, or bare pixels, to see why codes matter", group="advanced", live=False
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
