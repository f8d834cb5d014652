"""A workbook for artists who make pictures and videos with VQGAN and CLIP.

Importing this costs nothing: each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqtools.animation.settings import AnimateSettings
    from vqtools.drawing import sample, score
    from vqtools.filming import animate
    from vqtools.networks import load_clip, load_transformer, load_vqgan
    from vqtools.painting.painter import Painter
    from vqtools.painting.settings import PaintSettings
    from vqtools.rendering import fly, morph
    from vqtools.sampling.settings import SampleSettings
    from vqtools.studio import paint

__version__ = "0.1.0"

_HOMES = {
    "AnimateSettings": "vqtools.animation.settings",
    "PaintSettings": "vqtools.painting.settings",
    "Painter": "vqtools.painting.painter",
    "SampleSettings": "vqtools.sampling.settings",
    "animate": "vqtools.filming",
    "fly": "vqtools.rendering",
    "load_clip": "vqtools.studio",
    "load_transformer": "vqtools.studio",
    "load_vqgan": "vqtools.studio",
    "morph": "vqtools.rendering",
    "paint": "vqtools.studio",
    "sample": "vqtools.drawing",
    "score": "vqtools.drawing",
}

__all__ = [
    "AnimateSettings", "PaintSettings", "Painter", "SampleSettings", "__version__", "animate", "fly",
    "load_clip", "load_transformer", "load_vqgan", "morph", "paint", "sample", "score",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vqtools' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
