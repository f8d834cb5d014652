"""Widgets over the library: forms made from settings, jobs driven by buttons, one panel a notebook.

Each name is loaded when it is first used: a page asks `vqtools.ui.colab` for what is missing before anything else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqtools.ui.animation import AnimatePanel, test_card
    from vqtools.ui.form import Form
    from vqtools.ui.models import Models
    from vqtools.ui.painting import PaintPanel
    from vqtools.ui.panels import SamplePanel
    from vqtools.ui.runner import Runner
    from vqtools.ui.training import TrainPanel, TransformerPanel

_EXPORTS = {
    "AnimatePanel": "vqtools.ui.animation",
    "Form": "vqtools.ui.form",
    "Models": "vqtools.ui.models",
    "PaintPanel": "vqtools.ui.painting",
    "Runner": "vqtools.ui.runner",
    "SamplePanel": "vqtools.ui.panels",
    "TrainPanel": "vqtools.ui.training",
    "TransformerPanel": "vqtools.ui.training",
    "test_card": "vqtools.ui.animation",
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
