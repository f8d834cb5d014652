"""Widgets over the library: forms made from settings, jobs driven by buttons, one panel a notebook.

Each name is loaded when it is first used: a page asks `vqtools.ui.colab` for what is missing before anything else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqtools.animation.test_card import test_card
    from vqtools.ui.animate_panel import AnimatePanel
    from vqtools.ui.form import Form
    from vqtools.ui.job_runner import Runner
    from vqtools.ui.model_menu import Models
    from vqtools.ui.paint_panel import PaintPanel
    from vqtools.ui.sample_panel import SamplePanel
    from vqtools.ui.train_transformer_panel import TransformerPanel
    from vqtools.ui.train_vqgan_panel import TrainPanel

_EXPORTS = {
    "AnimatePanel": "vqtools.ui.animate_panel",
    "Form": "vqtools.ui.form",
    "Models": "vqtools.ui.model_menu",
    "PaintPanel": "vqtools.ui.paint_panel",
    "Runner": "vqtools.ui.job_runner",
    "SamplePanel": "vqtools.ui.sample_panel",
    "TrainPanel": "vqtools.ui.train_vqgan_panel",
    "TransformerPanel": "vqtools.ui.train_transformer_panel",
    "test_card": "vqtools.animation.test_card",
}

__all__ = [
    "AnimatePanel",
    "Form",
    "Models",
    "PaintPanel",
    "Runner",
    "SamplePanel",
    "TrainPanel",
    "TransformerPanel",
    "test_card",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'vqtools.ui' has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
