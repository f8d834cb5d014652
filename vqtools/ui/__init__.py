"""Widgets over the library: forms made from settings, jobs driven by buttons, one panel a notebook."""

from vqtools.ui.form import Form
from vqtools.ui.panels import PaintPanel
from vqtools.ui.runner import Runner

__all__ = ["Form", "PaintPanel", "Runner"]
