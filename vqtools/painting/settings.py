"""What a person may choose about a painting: the source of the command's flags, the form and the PNG's record.

Knows no network, and imports none: the command line reads it before anything heavy is loaded.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator, model_validator

from vqtools.painting.prompts import parse
from vqtools.settings import Settings, Size, UserError, option

AUGMENTATIONS = "Hf Af Pe Sh Ji Gn"

PRESETS: dict[str, dict[str, int]] = {
    "draft": {"iterations": 30, "cutouts": 6},
    "normal": {"iterations": 100, "cutouts": 8},
    "better": {"iterations": 200, "cutouts": 16},
    "best": {"iterations": 400, "cutouts": 24},
}


def augment_codes(augment: str) -> frozenset[str]:
    """The codes named in ``augment``, separated by spaces or commas, in any case."""
    known = {code.lower(): code for code in AUGMENTATIONS.split()}
    named = augment.replace(",", " ").split()
    if unknown := [code for code in named if code.lower() not in known]:
        raise UserError(f"augment {unknown[0]!r}: the codes are {AUGMENTATIONS}, or none for plain cutouts")
    return frozenset(known[code.lower()] for code in named)


class PaintSettings(Settings):
    prompt: str = option(
        "a red apple",
        help="what the picture should show: texts separated by |, each with :weight:stop; a negative weight repels",
    )
    preset: Literal["draft", "normal", "better", "best"] = option(
        "normal", help="sets iterations and cutouts together; either can still be set by itself"
    )
    size: Size = option(
        (192, 192),
        help="width and height, multiples of the VQGAN's f",
        unit="pixels",
        short=("s",),
        quick=64,
        live=False,
    )
    iterations: int = option(100, help="steps of guidance", short=("i",), quick=3, ge=1, le=100_000)
    seed: int | None = option(
        None, help="the same seed, the same picture; empty draws one", short=("sd",), ge=0, lt=2**63, live=False
    )
    init_image: str = option("", help="a picture file to start from", group="start from", short=("ii",), live=False)
    init_weight: float = option(
        0.0,
        help="w in w/2 · mean((z − z_init)²), which holds the latents to those it started from",
        group="start from",
        short=("iw",),
        ge=0,
    )
    vqgan: str = option("starter", help="name or path of the VQGAN that draws", short=("ckpt",), live=False)
    clip: str = option(
        "starter", help="name of the CLIP that judges, NAME/TAG as open_clip has it", short=("m",), live=False
    )
    transformer: str = option(
        "starter",
        help="name or path of the transformer that draws the start; none begins with random codes",
        group="start from",
        live=False,
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
        help="what happens to cutouts: Hf flip, Af turn and shift, Pe perspective, Sh softening, Ji colour, Gn noise",
    )
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
    group: int = option(
        0,
        help="cutouts that go through the CLIP at a time, fewer for less memory; 0 for all at once",
        group="advanced",
        ge=0,
        le=4096,
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto", help="of the networks; auto takes the quicker one that is safe here", group="advanced", live=False
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        chosen = values.get("preset") if isinstance(values, dict) else None
        return {**PRESETS[chosen], **values} if isinstance(chosen, str) and chosen in PRESETS else values

    @field_validator("prompt")
    @classmethod
    def _prompt_can_be_read(cls, value: str) -> str:
        parse(value)
        return value

    @field_validator("augment")
    @classmethod
    def _codes_are_known(cls, value: str) -> str:
        augment_codes(value)
        return value
