"""Settings of notebook 00: which picture, prompt and networks its figures use.

Imports no network and no figure.
"""

from __future__ import annotations

from vqtools.core.settings import Settings, option


class IllustratedSettings(Settings):
    """Pictures, prompt, networks and lengths of the toy trainings of notebook 00."""

    picture: str = option(
        "watercolours.zip/oranges-POM00006472.webp",
        help="the picture used by most figures: a file, or ZIP/NAME for one inside a zip",
    )
    others: str = option("watercolours.zip", help="a zip or folder of further pictures, from which codes are counted")
    prompt: str = option("a red apple", help="the text that guides the transformer and CLIP")
    thing: str = option("apple", help="one noun, inserted into ten phrasings")
    seed: int = option(1, help="random seed of all figures", ge=0)
    vqgan: str = option("starter", help="name or path of the VQGAN")
    transformer: str = option("starter", help="name or path of the transformer")
    clip: str = option("starter", help="name of the CLIP")
    steps: int = option(300, help="training steps of the toy models", ge=6, quick=6)
    iterations: int = option(24, help="iterations of CLIP guidance", ge=2, quick=3)
