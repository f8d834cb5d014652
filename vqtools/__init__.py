"""A workbook for artists who make pictures and videos with VQGAN and CLIP.

The public names are loaded on first use, so that `import vqtools` is fast and does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vqtools.version import __version__

if TYPE_CHECKING:
    from vqtools.animation.settings import AnimateSettings
    from vqtools.painting.painter import Painter
    from vqtools.painting.settings import PaintSettings
    from vqtools.pipelines.animate import animate
    from vqtools.pipelines.morph import fly, morph
    from vqtools.pipelines.paint import paint
    from vqtools.pipelines.sample import sample
    from vqtools.pipelines.score import score
    from vqtools.sampling.settings import SampleSettings
    from vqtools.weights.load import load_clip, load_transformer, load_vqgan

_EXPORTS = {
    "AnimateSettings": "vqtools.animation.settings",
    "PaintSettings": "vqtools.painting.settings",
    "Painter": "vqtools.painting.painter",
    "SampleSettings": "vqtools.sampling.settings",
    "animate": "vqtools.pipelines.animate",
    "fly": "vqtools.pipelines.morph",
    "load_clip": "vqtools.weights.load",
    "load_transformer": "vqtools.weights.load",
    "load_vqgan": "vqtools.weights.load",
    "morph": "vqtools.pipelines.morph",
    "paint": "vqtools.pipelines.paint",
    "sample": "vqtools.pipelines.sample",
    "score": "vqtools.pipelines.score",
}

__all__ = [
    "AnimateSettings", "PaintSettings", "Painter", "SampleSettings", "__version__", "animate", "fly",
    "load_clip", "load_transformer", "load_vqgan", "morph", "paint", "sample", "score",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'vqtools' has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
