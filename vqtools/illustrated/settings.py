"""TODO: what this module is.

Split from vqtools.ui.illustrated.page.
"""

from __future__ import annotations

from vqtools.core.settings import Settings, option


class IllustratedSettings(Settings):
    """What a reader of notebook 00 may choose."""

    picture: str = option(
        "watercolours.zip/oranges-POM00006472.webp", help="your own picture: a file, or one inside a zip as ZIP/NAME"
    )
    others: str = option("watercolours.zip", help="more pictures, to see where codes are used: a zip or a folder")
    prompt: str = option("a red apple", help="what shall be painted where CLIP judges")
    thing: str = option("apple", help="the one word that is phrased in ten ways")
    seed: int = option(1, help="seed of every draw", ge=0)
    vqgan: str = option("starter", help="name or path of the VQGAN")
    transformer: str = option("starter", help="name or path of the transformer")
    clip: str = option("starter", help="name of the CLIP")
    steps: int = option(300, help="steps of the toy trainings", ge=6, quick=6)
    iterations: int = option(24, help="turns of the loop in which CLIP judges", ge=2, quick=3)
